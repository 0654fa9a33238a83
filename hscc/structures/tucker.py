"""Tucker-2: a convolution as 1 x 1, k x k on a core, 1 x 1 (Kim et al., 2015), in any number of dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from hscc.calibration.layers import CONVOLUTIONS, Layer
from hscc.factorisation.chain import Chain
from hscc.factorisation.factors import RegionFactors
from hscc.structures.base import (
    State,
    Structure,
    bias_of,
    conv_padding,
    conv_padding_mode,
    kernels_of,
    pointwise,
    sequential_state,
)


class TuckerConv(nn.Sequential):
    """Input basis, core and output basis."""


@dataclass(frozen=True)
class Tucker2(Structure):
    """Bases of the input and of the output channels with a small kernel between them.

    Attributes
    ----------
    core : (int, int)
        Ranks of the input and of the output mode.
    """

    kind: ClassVar[str] = "tucker"
    core: tuple[int, int]

    def macs(self, layer: Layer) -> int:
        """See `Structure`."""
        inner, outer = self.core
        core_and_out = (inner * outer * layer.taps + outer * layer.outputs) * layer.positions
        return layer.inputs * inner * layer.input_positions + core_and_out

    def params(self, layer: Layer) -> int:
        """See `Structure`."""
        inner, outer = self.core
        bias = layer.outputs if layer.bias else 0
        return layer.inputs * inner + inner * outer * layer.taps + outer * layer.outputs + bias

    def build(self, layer: Layer) -> nn.Module:
        """See `Structure`."""
        inner, outer = self.core
        return TuckerConv(
            pointwise(layer, layer.inputs, inner),
            CONVOLUTIONS[layer.axes](
                inner, outer, layer.kernel, layer.stride, conv_padding(layer), layer.dilation,
                bias=False, padding_mode=conv_padding_mode(layer),
            ),
            pointwise(layer, outer, layer.outputs, layer.bias),
        )  # fmt: skip

    def chain(self, layer: Layer, module: nn.Module) -> Chain:
        """See `Structure`: one region with one encoder, the core."""
        basis, core, decoder = (weight.flatten(1) for weight in kernels_of(module))
        factors = RegionFactors([core], decoder, bias_of(module, layer), 0.0)
        return Chain(basis, [[torch.arange(core.shape[1])]], [factors], layer.bias)

    def chain_state(self, layer: Layer, chain: Chain) -> State:
        """See `Structure`."""
        (factors,) = chain.regions
        assert chain.projection is not None
        core = factors.encoders[0].reshape(self.core[1], self.core[0], *layer.kernel)
        one = (1,) * layer.axes
        first, last = (matrix.reshape(*matrix.shape, *one) for matrix in (chain.projection, factors.decoder))
        kernels = [first, core, last]
        return sequential_state(kernels, factors.bias if layer.bias else None)

    def describe(self) -> str:
        """See `Structure`."""
        return "Tucker-2"

    def ranks_text(self) -> str:
        """See `Structure`."""
        return "x".join(map(str, self.core))

    def region_ranks(self, layer: Layer) -> list[int]:
        """See `Structure`."""
        inner, outer = self.core
        return [min(inner * layer.taps, outer)]
