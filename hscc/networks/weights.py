"""Files of weights: written, and read where they were trained elsewhere; whether a network answers as it should."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from hscc.errors import ArtifactError, ParamsError, first_few, first_line
from hscc.files import replacing
from hscc.networks.inspection import evaluating

SUFFIXES = (".safetensors", ".pt", ".pth")
"""Endings of files that `load_weights` reads."""

_INSIDE = ("state_dict", "model_state_dict", "model")  # where training scripts keep the weights in a checkpoint


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, header: Mapping[str, str]) -> None:
    """Write tensors to one safetensors file, replacing it as a whole; those that share memory become separate ones."""
    separate = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with replacing(path) as new:
        safetensors.torch.save_file(separate, new, metadata=dict(header))


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy weights from a file into a network, in place; every tensor must fit.

    Parameters
    ----------
    model : nn.Module
        The network.
    path : Path
        A safetensors file, or a state dict that ``torch.save`` wrote, alone or in a checkpoint under ``state_dict``,
        ``model_state_dict`` or ``model``. It is read without running code (``weights_only=True``). The prefix
        ``module.`` of ``DataParallel`` is removed.

    Raises
    ------
    ArtifactError
        If the file is missing or holds no weights, or names or shapes differ from the network's; the message names the
        first.
    """
    given = _read(path)
    if given and all(name.startswith("module.") for name in given):
        given = {name.removeprefix("module."): value for name, value in given.items()}
    own = model.state_dict()
    problems = [
        *_named("lacks", [name for name in own if name not in given]),
        *_named("has the unknown", [name for name in given if name not in own]),
        *_named(
            "has other shapes for",
            [
                f"{name} {tuple(value.shape)} where the network has {tuple(own[name].shape)}"
                for name, value in given.items()
                if name in own and value.shape != own[name].shape
            ],
        ),
    ]
    if problems:
        raise ArtifactError(
            f"{path} does not fit the network of train.backbone: it {'; it '.join(problems)}; correct train.backbone, "
            "train.weights or data.classes."
        )
    model.load_state_dict(given)


def check_answer(model: nn.Module, name: str, inputs: Sequence[int], answer: Sequence[int]) -> None:
    """Check what a network returns for one image of zeros.

    Parameters
    ----------
    model : nn.Module
        The network; its mode stays as it is.
    name : str
        ``train.backbone``, for messages.
    inputs, answer : sequence of int
        Shapes of one image and of its answer, without the batch: (C, H, W) and (classes,).

    Raises
    ------
    ParamsError
        If the network fails, or returns anything but one tensor of that shape.
    """
    try:
        with torch.no_grad(), evaluating(model):
            found = model(torch.zeros(1, *inputs))
    except Exception as error:  # a user's network may raise anything
        raise ParamsError(
            f"train.backbone {name!r} fails on an input of shape {(1, *inputs)} ({first_line(error)}); correct the "
            "network or data.image_size."
        ) from error
    wanted = (1, *answer)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != wanted:
        what = f"shape {tuple(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
        raise ParamsError(
            f"train.backbone {name!r} returns {what} for one image where data.classes asks for a tensor of shape "
            f"{wanted}; correct the network or data.classes."
        )


def _read(path: Path) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; put the file there, or correct train.weights in params.yaml.")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise ArtifactError(
            f"{path} cannot be read as weights ({first_line(error)}); write model.state_dict() with "
            "safetensors.torch.save_file or torch.save."
        ) from error
    for key in _INSIDE:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ArtifactError(f"{path} holds more than weights; write model.state_dict() alone.")
    return found


def _named(what: str, names: Sequence[str]) -> list[str]:
    return [f"{what} {first_few(names)}"] if names else []
