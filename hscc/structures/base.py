"""The base class of structures and their registry.

A structure says what takes a layer's place: what it costs, the module that computes it, how a plan describes and stores
it. To add one, copy `hscc.structures.tucker` into a new file of this package, or of another package that is imported
before plans are read; giving the class a ``kind`` registers it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import nn

from hscc.calibration.layers import CONVOLUTIONS, Box, Conv, Layer
from hscc.factorisation.chain import Chain

State = dict[str, torch.Tensor]
Tiles = tuple[Box, ...]

# Float32 numbers in a register of AVX-512: a rank in between takes the time of the next multiple.
SIMD_WIDTH = 16
STRUCTURES: dict[str, type[Structure]] = {}

# The fields that the format hscc-plan-3 stores for every structure, with the values of those that have no use for them.
_UNUSED: dict[str, Any] = {"cells": 1, "regions": (), "core": (0, 0), "input_regions": 1, "projection": 0}


@dataclass(frozen=True)
class Structure(ABC):
    """What takes a layer's place. Plain data, with the ranks once they are chosen.

    Attributes
    ----------
    kind : str
        Name in the registry and in plan.json.
    rank_note : str
        Said in place of figures where a map of the ranks would show nothing; empty if it would.
    """

    kind: ClassVar[str]
    rank_note: ClassVar[str] = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in vars(cls):
            STRUCTURES[cls.kind] = cls

    @abstractmethod
    def macs(self, layer: Layer) -> int:
        """Multiply-accumulates of one image."""

    @abstractmethod
    def params(self, layer: Layer) -> int:
        """Parameters, biases included."""

    @abstractmethod
    def build(self, layer: Layer) -> nn.Module:
        """Make the untrained module; `module` calls this and spares the caller's random numbers."""

    @abstractmethod
    def describe(self) -> str:
        """Name it in a few words for the table of a plan."""

    @abstractmethod
    def ranks_text(self) -> str:
        """Write its ranks for the table of a plan."""

    @abstractmethod
    def region_ranks(self, layer: Layer) -> list[int] | None:
        """Rank of the layer's weight (outputs by features) in each region; None where there is no such rank."""

    def module(self, layer: Layer) -> nn.Module:
        """Make the untrained module that takes the layer's place.

        The state of torch's generator stays as it was: weights that are overwritten cost no random numbers.
        """
        with torch.random.fork_rng(devices=[]):
            return self.build(layer)

    def chain(self, layer: Layer, module: nn.Module) -> Chain | None:
        """Read the factors of a module that `module` made; None for a structure that cannot be refitted."""
        return None

    def chain_state(self, layer: Layer, chain: Chain) -> State:
        """State of the module with the factors that `chain` reads."""
        raise NotImplementedError(f"{type(self).__name__} has no chain of factors")

    def partition_texts(self) -> tuple[str, str]:
        """Write the number of regions and of clusters in a region for the table of a plan."""
        return "", ""

    def cell_tiles(self, layer: Layer) -> tuple[int, list[Tiles]]:
        """Cells per side of the output positions, and the tiles of each region counted in them."""
        return 1, [whole_tiles(layer.axes)]

    @property
    def region_count(self) -> int:
        """Regions of output positions, or of the input of a linear layer."""
        return 1

    @property
    def cluster_count(self) -> int:
        """Spatio-channel clusters of all regions together."""
        return 1

    @property
    def kept_clusters(self) -> int:
        """Those of the clusters whose rank is not 0."""
        return 1

    def timing_key(self) -> list[Any]:
        """List what its time depends on besides the layer, as JSON values; what `rank_levels` varies is left out."""
        return list(self.to_record().values())

    def rank_levels(self, layer: Layer) -> list[tuple[int, Structure]]:
        """Ranks with the structures that are timed at them; none if its time is not a line over a rank."""
        return []

    def mean_rank(self, layer: Layer) -> float:
        """Rank to read such a line at: the mean over the layer's output positions."""
        return 0.0

    def to_record(self) -> dict[str, Any]:
        """Return its entry in plan.json."""
        return {"kind": self.kind, **_UNUSED, **asdict(self)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Structure:
        """Read its entry in plan.json, whose lists stand for tuples."""
        return cls(**{field.name: as_tuples(record[field.name]) for field in fields(cls)})


def read_structure(record: Mapping[str, Any]) -> Structure:
    """Read an entry of plan.json.

    Raises
    ------
    ValueError
        If its kind is not registered.
    """
    kind = record["kind"]
    if kind not in STRUCTURES:
        raise ValueError(f"the structure {kind!r} is unknown here, import the package that defines it")
    return STRUCTURES[kind].from_record(record)


def as_tuples(value: Any) -> Any:
    """Turn JSON's lists, at any depth, into tuples."""
    return tuple(as_tuples(item) for item in value) if isinstance(value, list) else value


def whole_tiles(axes: int) -> Tiles:
    """Tiles of a region of all positions, in a single cell."""
    return ((0, 1) * axes,)


def pointwise(layer: Layer, inputs: int, outputs: int, bias: bool = False) -> Conv:
    """Make a convolution of one tap, of as many dimensions as a layer has."""
    return CONVOLUTIONS[layer.axes](inputs, outputs, 1, bias=bias)


def conv_padding(layer: Layer) -> str | tuple[int, ...]:
    """Padding of a convolution as torch's modules take it; only "same" pads two sides differently."""
    before, behind = layer.padding[-2::-2], layer.padding[::-2]
    return before if before == behind else "same"


def conv_padding_mode(layer: Layer) -> Any:
    """Padding mode of a convolution as torch's modules take it."""
    return "zeros" if layer.padding_mode == "constant" else layer.padding_mode


def sequential_state(kernels: Sequence[torch.Tensor], bias: torch.Tensor | None) -> State:
    """State of an `nn.Sequential` of convolutions, the last of which may have a bias.

    Parameters
    ----------
    kernels : sequence of Tensor, shape (C_out, C_in, *kernel)
        In the order of execution.
    bias : Tensor, shape (C_out,), optional
        Of the last.
    """
    state = {f"{index}.weight": kernel.contiguous().clone() for index, kernel in enumerate(kernels)}
    if bias is not None:
        state[f"{len(kernels) - 1}.bias"] = bias.contiguous().clone()
    return state


def kernels_of(module: nn.Module) -> list[torch.Tensor]:
    """Kernels of an `nn.Sequential` of convolutions, in the order of execution."""
    return [part.weight.detach() for part in module.children()]  # type: ignore[operator]


def bias_of(module: nn.Module, layer: Layer) -> torch.Tensor:
    """Bias of the last convolution of an `nn.Sequential`; zeros where the layer has none."""
    last = list(module.children())[-1]
    return last.bias.detach() if layer.bias else last.weight.new_zeros(layer.outputs)  # type: ignore[operator]
