"""Answers in the unit of their values: a scale and a shift behind a network, or folded into its last layer."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from hscc.errors import CompressionError
from hscc.networks.inspection import evaluating


class Scaled(nn.Module):
    """A network whose answers z become ``z * scale + shift``, in float32.

    Parameters
    ----------
    network : nn.Module
        To answers of shape (N, K).
    scale, shift : sequence of float
        K numbers each.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: nn.Module, scale: Sequence[float], shift: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scale and shift the network's answers."""
        answers: torch.Tensor = self.network(images).float() * self.scale + self.shift
        return answers


def fold_scale(network: nn.Module, scale: Sequence[float], shift: Sequence[float], inputs: torch.Tensor) -> nn.Module:
    """Copy a network so that its last linear layer gives what `Scaled` would.

    Parameters
    ----------
    network : nn.Module
        Ends in a linear layer of K outputs, with a bias.
    scale, shift : sequence of float
        K numbers each.
    inputs : Tensor, shape (N, C, ...)
        To check the copy on.

    Raises
    ------
    CompressionError
        If it does not end in such a layer.
    """
    folded = copy.deepcopy(network)
    last = next(
        (
            layer
            for layer in reversed(list(folded.modules()))
            if isinstance(layer, nn.Linear) and layer.out_features == len(scale) and layer.bias is not None
        ),
        None,
    )
    factor, offset = torch.tensor(scale, dtype=torch.float64), torch.tensor(shift, dtype=torch.float64)
    with torch.no_grad():
        if last is not None:
            last.weight.copy_(last.weight.double() * factor[:, None])
            last.bias.copy_(last.bias.double() * factor + offset)
        with evaluating(network), evaluating(folded):
            wanted, found = network(inputs) * factor + offset, folded(inputs).double()
        near = torch.isclose(found, wanted, rtol=1e-3, atol=1e-3 * float(factor.abs().max())).all()
    if last is None or not bool(near):
        raise CompressionError(
            f"the network does not end in a linear layer of {len(scale)} outputs with a bias, which the scale of its "
            "values could be folded into; let it end in torch.nn.Linear, with nothing behind it."
        )
    return folded
