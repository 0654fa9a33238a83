"""Runs of a network up to one layer, and the divergence between two networks' answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

AT_ONCE = 32  # images


class _ReachedError(Exception):
    """Ends a forward pass whose rest is not needed."""


def execution_order(model: nn.Module, names: Sequence[str], image: torch.Tensor) -> list[str]:
    """Sort layers by when a forward pass reaches them.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    names : sequence of str
        Modules.
    image : Tensor, shape (N, C, H, W)
        Any input.
    """
    reached: list[str] = []
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: reached.append(name))
        for name in names
    ]  # fmt: skip
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(reached))


def layer_input(model: nn.Module, name: str, images: torch.Tensor) -> torch.Tensor:
    """What a module receives; the network runs no further."""
    found: list[torch.Tensor] = []

    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, Any]) -> None:
        found.append(inputs[0] if inputs else named["input"])
        raise _ReachedError

    handle = model.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
    return _stopped(model, images, handle, found)


def layer_output(model: nn.Module, name: str, images: torch.Tensor) -> torch.Tensor:
    """What a module gives, before anything overwrites it; the network runs no further."""
    found: list[torch.Tensor] = []

    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found.append(output)
        raise _ReachedError

    handle = model.get_submodule(name).register_forward_hook(hook)
    return _stopped(model, images, handle, found)


def logits(model: nn.Module, batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Outputs of all images, shape (N, classes), as float64 on the CPU."""
    outputs = [model(as_input(model, part)).double().cpu() for batch in batches for part in batch.split(AT_ONCE)]
    return torch.cat(outputs)


def divergence(outputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Mean KL divergence from the targets' to the outputs' class probabilities, in nats."""
    return float(
        F.kl_div(outputs.log_softmax(1), targets.log_softmax(1), log_target=True, reduction="batchmean").clamp_min(0)
    )


def as_input(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Copy images to a network's device and dtype: it may overwrite its input."""
    like = next(model.parameters())
    return images.to(like.device, like.dtype, copy=True)


def _stopped(model: nn.Module, images: torch.Tensor, handle: Any, found: list[torch.Tensor]) -> torch.Tensor:
    try:
        model(as_input(model, images))
    except _ReachedError:
        pass
    finally:
        handle.remove()
    return found[0]
