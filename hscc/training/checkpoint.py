"""The state of a training run on disk, so that a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import partial
from inspect import unwrap
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from hscc.networks.weights import write_tensors

Row = dict[str, float]


@dataclass
class State:
    """How far a run is.

    Attributes
    ----------
    epoch : int
        Epochs done.
    best : float
        The selection score of the weights kept, smaller being better.
    best_epoch : int
        Epoch of those weights; -1 for the weights as given.
    history : list of dict
        One row per epoch.
    precision : str
        In which the run computes.
    """

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = -1
    history: list[Row] = field(default_factory=list)
    precision: str = "fp32"


class Checkpoint:
    """State of a run in a folder: weights and optimiser as safetensors, the rest as their JSON header.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    identity : str
        From `identity_of` all that decides the result: a state is only taken up by a run of the same identity.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._identity = identity
        self._state, self._best = folder / "state.safetensors", folder / "best.safetensors"
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Write the state after an epoch, replacing the last one's as a whole."""
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
        header = {"identity": self._identity, "state": json.dumps(asdict(state))}
        write_tensors(tensors, self._state, header)

    def resume(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        steps: int,
    ) -> State:
        """Put model, optimiser and schedule where a killed run left them.

        Parameters
        ----------
        model, optimizer, schedule
            As they are before the first epoch.
        steps : int
            Steps of an epoch.

        Returns
        -------
        State
            That of the killed run; a fresh one where there is none, or where it is of another identity or damaged (a
            crash of the machine may leave half a file): then it is removed and a line is printed.
        """
        try:
            state = self._resume(model, optimizer, schedule, steps)
        except safetensors.SafetensorError:
            reason = "a damaged state, perhaps of a machine that went down"
        else:
            if state is not None:
                return state
            reason = "the state of a run with other settings"
        if self._state.is_file() or self._best.is_file():
            print(f"{self._state.parent} holds {reason}; training begins anew")
        self._remove_files()
        return State()

    def _resume(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        steps: int,
    ) -> State | None:
        if not self._state.is_file():
            return None
        with safetensors.safe_open(self._state, framework="pt") as file:
            header = file.metadata() or {}
        if header.get("identity") != self._identity:
            return None
        if self._best.is_file():
            safetensors.torch.load_file(self._best)  # or the end would find it damaged, after all the epochs
        tensors = safetensors.torch.load_file(self._state)
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        parameters = list(model.parameters())
        moments: dict[int, dict[str, Any]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, index, name = key.split(".")
                like = parameters[int(index)]
                # The fused kernel walks memory: a moment must lie as its parameter does (channels last).
                laid = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                moments.setdefault(int(index), {})[name] = laid
        state = State(**json.loads(header["state"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no optimiser step came before: they came in the killed run
            for _ in range(state.epoch * steps):
                schedule.step()
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
        return state

    def keep_best(self, model: nn.Module) -> None:
        """Write the weights that are the best so far."""
        write_tensors(model.state_dict(), self._best, {})

    def restore_best(self, model: nn.Module) -> None:
        """Put the best weights back into the model."""
        if self._best.is_file():
            model.load_state_dict(safetensors.torch.load_file(self._best))

    def clear(self) -> None:
        """Remove the folder of a run that is over."""
        self._remove_files()
        self._state.parent.rmdir()

    def _remove_files(self) -> None:
        for path in (self._state, self._best):
            path.unlink(missing_ok=True)


def identity_of(*parts: object) -> str:
    """Digest of settings, data and weights, 32 hexadecimal digits: equal for what gives equal results.

    Parameters
    ----------
    parts
        Dataclasses, tensors, arrays, modules, functions and `functools.partial` of them, numbers, strings, None, and
        tuples, lists and dictionaries of these.

    Raises
    ------
    TypeError
        If a part is something else, or a function that captures variables.
    """
    digest = hashlib.blake2b(digest_size=16)
    for token in _tokens(parts):
        digest.update(token)
    return digest.hexdigest()


def _tokens(value: object) -> Iterator[bytes | memoryview]:
    """Yield an encoding of a value that no other value shares."""
    yield f"<{type(value).__qualname__}>".encode()
    if value is None or isinstance(value, bool | int | float | str):
        yield repr(value).encode()
    elif isinstance(value, torch.Tensor):
        yield from _tokens(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        yield f"{value.dtype}{tuple(value.shape)}".encode()
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    elif isinstance(value, nn.Module):
        yield repr(value).encode()
        yield from _tokens(dict(value.state_dict()))
    elif isinstance(value, partial):
        yield from _tokens((value.func, value.args, value.keywords))
    elif isinstance(value, FunctionType) and not unwrap(value).__closure__:
        yield f"{value.__module__}.{value.__qualname__}".encode()
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _tokens({each.name: getattr(value, each.name) for each in fields(value)})
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tokens(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tokens((key, item))
    else:
        raise TypeError(
            f"{value!r} cannot be part of a training's identity; pass a module-level function, or functools.partial of "
            "one with its settings, instead of a closure or an object of another type."
        )
    yield b"</>"
