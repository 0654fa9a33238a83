"""What a budget counts. Each resource has a model of a layer's cost (dense, by structure, by rank) and a count.

To add one (bytes of a format, energy), write a subclass of `Counted` and enter a `Resource` in `RESOURCES`, or name it
in an entry point of the group ``hscc.resources`` (`hscc.plugins`); `hscc.budgets.budget.Budget` then takes its name as
a keyword. Milliseconds are measured: `hscc.budgets.latency_table.Latency`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from hscc.calibration.layers import Layer
from hscc.networks.cost import count_macs, count_parameters
from hscc.networks.inputs import InputShape
from hscc.plugins import Registry
from hscc.structures.base import Structure
from hscc.structures.low_rank import Block, LowRank, Region


class CostModel(Protocol):
    """Cost of one image through a layer. Additive over ranks, so that the allocation can price each.

    Attributes
    ----------
    rank_multiple : int
        Ranks between its multiples cost as much as the next one.
    equal_clusters : bool
        Whether clusters of a region share their rank, so that they run as one grouped convolution.
    """

    rank_multiple: int
    equal_clusters: bool

    def prepare(self, wanted: Sequence[tuple[Layer, Structure]]) -> None:
        """Get ready for these; a measured cost measures them."""
        ...

    def of_structure(self, layer: Layer, structure: Structure) -> float:
        """Cost of a structure with its ranks (the dense layer is one of them)."""
        ...

    def fixed(self, layer: Layer, structure: LowRank) -> float:
        """Cost of a low-rank structure at rank 0: of its projection and of each region."""
        ...

    def of_rank(self, layer: Layer, structure: LowRank, region: Region, block: Block) -> float:
        """Cost of one more rank in a block."""
        ...


class Counted:
    """Base of costs that are counted, not measured."""

    rank_multiple, equal_clusters = 1, False

    def prepare(self, wanted: Sequence[tuple[Layer, Structure]]) -> None:
        """Nothing is needed."""


class Macs(Counted):
    """Multiply-accumulates, as torch's FlopCounterMode sees them."""

    def of_structure(self, layer: Layer, structure: Structure) -> float:
        """See `CostModel`."""
        return structure.macs(layer)

    def fixed(self, layer: Layer, structure: LowRank) -> float:
        """The projection; biases and copies are not multiplied."""
        return structure.projection_macs(layer)

    def of_rank(self, layer: Layer, structure: LowRank, region: Region, block: Block) -> float:
        """Weights of the rank times the region's positions."""
        return structure.region_positions(layer, region) * structure.rank_weights(layer, block)


class Params(Counted):
    """Trainable numbers."""

    def of_structure(self, layer: Layer, structure: Structure) -> float:
        """See `CostModel`."""
        return structure.params(layer)

    def fixed(self, layer: Layer, structure: LowRank) -> float:
        """The projection, and one bias per region."""
        return structure.projection_params(layer) + layer.outputs * len(structure.regions)

    def of_rank(self, layer: Layer, structure: LowRank, region: Region, block: Block) -> float:
        """A row of the encoder and a column of the decoder, whatever the region's size."""
        return structure.rank_weights(layer, block)


@dataclass(frozen=True)
class Resource:
    """What a budget limits.

    Attributes
    ----------
    model : CostModel
        Cost of one layer.
    count : callable
        (network, `hscc.Calibration.input_shape`) -> cost of the whole network, as `model` counts its layers.
        An integer makes limits integers too.
    """

    model: CostModel
    count: Callable[[nn.Module, InputShape], float]


RESOURCES = Registry(
    "hscc.resources",
    {
        "macs": Resource(Macs(), count_macs),
        "params": Resource(Params(), lambda network, input_shape: count_parameters(network)),
    },
)


@dataclass(frozen=True)
class Limit:
    """Most of a resource that all layers of a calibration may use together.

    Attributes
    ----------
    name : str
        Of the resource.
    model : CostModel
        What counts it.
    most : float
        In the model's unit.
    """

    name: str
    model: CostModel
    most: float
