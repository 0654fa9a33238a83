"""The state of a training run on disk, so that a killed run goes on where it was."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

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
        A row an epoch.
    """

    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = -1
    history: list[Row] = field(default_factory=list)


class Checkpoint:
    """State of a run in a folder: weights and optimiser as safetensors, the rest as their JSON header.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    recipe : Mapping
        How the run trains, as JSON can hold it: a state is only taken up by a run that trains alike.
    """

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        self._recipe = json.dumps(recipe, sort_keys=True)
        self._state, self._best = folder / "state.safetensors", folder / "best.safetensors"
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
        """Write the state after an epoch, replacing the last one's as a whole."""
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in moments.items()}
        header = {"recipe": self._recipe, "state": json.dumps(asdict(state))}
        _write({key: value.cpu().contiguous() for key, value in tensors.items()}, self._state, header)

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
            That of the killed run; a fresh one where there is none, where it is of another recipe, or where a crash of
            the machine left half a file, which is said and removed.
        """
        try:
            return self._resume(model, optimizer, schedule, steps)
        except safetensors.SafetensorError:
            print(f"{self._state.parent} holds half a state, perhaps of a machine that went down; training begins anew")
            for path in (self._state, self._best):
                path.unlink(missing_ok=True)
            return State()

    def _resume(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        steps: int,
    ) -> State:
        if not self._state.is_file():
            return State()
        with safetensors.safe_open(self._state, framework="pt") as file:
            header = file.metadata() or {}
        if header.get("recipe") != self._recipe:
            return State()  # the file is replaced after the first epoch
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
        _write({key: value.cpu().contiguous() for key, value in model.state_dict().items()}, self._best, {})

    def restore_best(self, model: nn.Module) -> None:
        """Put the best weights back into the model."""
        if self._best.is_file():
            model.load_state_dict(safetensors.torch.load_file(self._best))

    def clear(self) -> None:
        """Remove the state of a run that is over."""
        for path in (self._state, self._best):
            path.unlink(missing_ok=True)
        self._state.parent.rmdir()


def _write(tensors: dict[str, torch.Tensor], path: Path, header: dict[str, str]) -> None:
    partial = path.with_suffix(".partial")
    safetensors.torch.save_file(tensors, partial, metadata=header)
    os.replace(partial, path)
