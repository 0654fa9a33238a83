"""A layer left as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from hscc.calibration.layers import CONVOLUTIONS, Layer
from hscc.structures.base import Structure, conv_padding, conv_padding_mode


@dataclass(frozen=True)
class Dense(Structure):
    """The layer itself."""

    kind: ClassVar[str] = "dense"
    rank_note: ClassVar[str] = "left as it was, full rank everywhere"

    def macs(self, layer: Layer) -> int:
        """See `Structure`."""
        return layer.macs

    def params(self, layer: Layer) -> int:
        """See `Structure`."""
        return layer.weights + (layer.outputs if layer.bias else 0)

    def build(self, layer: Layer) -> nn.Module:
        """See `Structure`."""
        if layer.kind == "linear":
            return nn.Linear(layer.inputs, layer.outputs, layer.bias)
        return CONVOLUTIONS[layer.axes](
            layer.inputs, layer.outputs, layer.kernel, layer.stride, conv_padding(layer), layer.dilation,
            bias=layer.bias, padding_mode=conv_padding_mode(layer),
        )  # fmt: skip

    def describe(self) -> str:
        """See `Structure`."""
        return "dense"

    def ranks_text(self) -> str:
        """See `Structure`."""
        return ""

    def region_ranks(self, layer: Layer) -> list[int]:
        """See `Structure`."""
        return [min(layer.outputs, layer.features)]

    def timing_key(self) -> list[Any]:
        """See `Structure`."""
        return [self.kind, 1, [], 0]  # as tables that were measured before have it


DENSE = Dense()
