"""Spatial SVD: a convolution as k x 1 and 1 x k (Jaderberg et al., 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from hscc.calibration.layers import Layer
from hscc.factorisation.chain import Chain
from hscc.factorisation.factors import RegionFactors
from hscc.structures.base import (
    State,
    Structure,
    bias_of,
    conv_padding,
    conv_padding_mode,
    kernels_of,
    sequential_state,
)


class SpatialConv2d(nn.Sequential):
    """Column filters and row filters."""


@dataclass(frozen=True)
class Separable(Structure):
    """Column filters, then row filters.

    Attributes
    ----------
    rank : int
        Channels between the two.
    """

    kind: ClassVar[str] = "spatial"
    rank_note: ClassVar[str] = "spatial SVD: no rank over the whole layer"
    rank: int

    def macs(self, layer: Layer) -> int:
        """See `Structure`."""
        # The column filters run over rows already strided and columns not yet strided.
        columns_between = layer.input_grid[1]
        down = layer.inputs * layer.kernel[0] * layer.grid[0] * columns_between
        return self.rank * (down + layer.outputs * layer.kernel[1] * layer.positions)

    def params(self, layer: Layer) -> int:
        """See `Structure`."""
        bias = layer.outputs if layer.bias else 0
        return self.rank * (layer.inputs * layer.kernel[0] + layer.outputs * layer.kernel[1]) + bias

    def build(self, layer: Layer) -> nn.Module:
        """See `Structure`."""
        (rows, columns), (down, across), mode = layer.kernel, layer.stride, conv_padding_mode(layer)
        padding = conv_padding(layer)
        before, behind = (padding, padding) if isinstance(padding, str) else ((padding[0], 0), (0, padding[1]))
        return SpatialConv2d(
            nn.Conv2d(
                layer.inputs, self.rank, (rows, 1), (down, 1), before, (layer.dilation[0], 1),
                bias=False, padding_mode=mode,
            ),
            nn.Conv2d(
                self.rank, layer.outputs, (1, columns), (1, across), behind, (1, layer.dilation[1]),
                bias=layer.bias, padding_mode=mode,
            ),
        )  # fmt: skip

    def chain(self, layer: Layer, module: nn.Module) -> Chain:
        """See `Structure`: column filters that all taps of a row share, and a decoder without encoders."""
        down, across = (weight.flatten(1) for weight in kernels_of(module))
        return Chain(down, [[]], [RegionFactors([], across, bias_of(module, layer), 0.0)], layer.bias)

    def chain_state(self, layer: Layer, chain: Chain) -> State:
        """See `Structure`."""
        (factors,) = chain.regions
        assert chain.projection is not None
        down = chain.projection.reshape(self.rank, layer.inputs, layer.kernel[0], 1)
        across = factors.decoder.reshape(layer.outputs, self.rank, 1, layer.kernel[1])
        return sequential_state([down, across], factors.bias if layer.bias else None)

    def describe(self) -> str:
        """See `Structure`."""
        return "spatial SVD"

    def ranks_text(self) -> str:
        """See `Structure`."""
        return str(self.rank)

    def region_ranks(self, layer: Layer) -> None:
        """See `Structure`: each row and column of taps has a rank, the layer has none."""

    def to_record(self) -> dict[str, Any]:
        """See `Structure`; the format has the rank as the first number of the core."""
        record = super().to_record()
        record["core"] = (record.pop("rank"), 0)
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Separable:
        """See `Structure`."""
        return cls(record["core"][0])
