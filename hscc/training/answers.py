"""What a network answers to batches of inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from hscc.networks.inspection import evaluating
from hscc.networks.memory_order import laid_out
from hscc.training.loop import autocast


@torch.no_grad()
def answered(
    network: nn.Module, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], precision: str = "fp32"
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield a network's answers to inputs (n, channels, ...), float32 on the CPU, each with its targets.

    Parameters
    ----------
    network : nn.Module
        Run where it is, in evaluation mode.
    batches : iterable of (Tensor, Tensor)
        Inputs and targets.
    precision : str
        "bf16", or float32 for any other.
    """
    device = next(network.parameters()).device
    rest = iter(batches)
    if (first := next(rest, None)) is None:
        return
    with evaluating(network), laid_out(network, first[0]):
        for inputs, targets in itertools.chain([first], rest):
            with autocast(precision, device):
                answer = network(inputs.to(device)).float().cpu()
            yield answer, targets
