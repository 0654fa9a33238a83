"""Runs of a network up to one layer, and to its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from hscc.networks.inputs import Batch, as_input, parts, run
from hscc.outputs import Outputs

AT_ONCE = 32  # images


class _ReachedError(Exception):
    """Ends a forward pass whose rest is not needed."""


def execution_order(model: nn.Module, names: Sequence[str], image: Batch) -> list[str]:
    """Sort layers by when a forward pass reaches them.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    names : sequence of str
        Modules.
    image : Tensor, shape (N, C, H, W), or a tuple or dict of Tensor
        Any input, as for the network.
    """
    reached: list[str] = []
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: reached.append(name))
        for name in names
    ]  # fmt: skip
    try:
        run(model, image)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(reached))


def layer_input(model: nn.Module, name: str, images: Batch) -> torch.Tensor:
    """What a module receives; the network runs no further."""
    found: list[torch.Tensor] = []

    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, Any]) -> None:
        found.append(inputs[0] if inputs else named["input"])
        raise _ReachedError

    handle = model.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True, prepend=True)
    return _stopped(model, images, handle, found)


def layer_output(model: nn.Module, name: str, images: Batch) -> torch.Tensor:
    """What a module gives, before anything overwrites it; the network runs no further."""
    found: list[torch.Tensor] = []

    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        found.append(output)
        raise _ReachedError

    handle = model.get_submodule(name).register_forward_hook(hook)
    return _stopped(model, images, handle, found)


def answers(model: nn.Module, batches: Iterable[Batch], outputs: Outputs) -> Iterator[torch.Tensor]:
    """What counts of the answers to some images at a time, shape (n, K, *positions), on the CPU; float64 but for maps.

    Images are taken in the same parts whatever the model.
    """
    for batch in batches:
        for part in parts(batch, AT_ONCE):
            found = outputs.select(run(model, as_input(model, part))).cpu()
            yield found if found.ndim > 2 else found.double()


def mean_divergence(
    model: nn.Module, batches: Iterable[Batch], targets: Iterable[torch.Tensor], outputs: Outputs
) -> float:
    """Mean divergence over images, in nats.

    Parameters
    ----------
    model : nn.Module
        The compressed network.
    batches : iterable of Batch
        Its inputs.
    targets : iterable of Tensor
        The `answers` of the dense network to them.
    outputs : Outputs
        What counts, and how divergence is measured.
    """
    apart = [
        outputs.divergence(found, wanted)
        for found, wanted in zip(answers(model, batches, outputs), targets, strict=True)
    ]
    return max(float(torch.cat(apart).mean(dtype=torch.float64)), 0.0)


def _stopped(model: nn.Module, images: Batch, handle: Any, found: list[torch.Tensor]) -> torch.Tensor:
    try:
        run(model, as_input(model, images))
    except _ReachedError:
        pass
    finally:
        handle.remove()
    return found[0]
