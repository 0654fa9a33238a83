"""The structures a layer may take, with the spectra of their clusters; kept with the calibration for a next budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.calibration.moments import LayerMoments, RegionMoments, region_moments
from hscc.compression.clusters import Correlation, Grouping, channel_correlation
from hscc.compression.factors import dense_outputs, output_energy
from hscc.compression.regions import Grid, Partition, region_cells
from hscc.compression.space import TOGETHER, WHOLE, Measure, SearchSpace
from hscc.compression.spectra import Norm, Spectrum, columns_of, region_norm, spectrum
from hscc.compression.structure import Block, Region, Structure, Tiles

_T = TypeVar("_T")
_FEWEST_CHANNELS = 8  # in a cluster: under the width of a SIMD register nothing is gained


@dataclass(frozen=True)
class Option:
    """A structure without ranks, and what ranks would save.

    Attributes
    ----------
    structure : Structure
        All ranks 0.
    spectra : list of Spectrum
        Of its blocks, flat.
    energies : list of float
        Of the dense outputs of its regions; see `hscc.compression.factors.output_energy`.
    """

    structure: Structure
    spectra: list[Spectrum]
    energies: list[float]


def dense_weight(model: nn.Module, layer: Layer) -> torch.Tensor:
    """Weight of a layer, shape (C_out, d), on the CPU in at least float32."""
    weight = model.get_parameter(f"{layer.name}.weight").detach().cpu()
    return weight.reshape(layer.outputs, -1).to(torch.promote_types(weight.dtype, torch.float32))


def dense_bias(model: nn.Module, layer: Layer) -> torch.Tensor | None:
    """Bias of a layer, shape (C_out,), or None."""
    return model.get_parameter(f"{layer.name}.bias").detach().cpu() if layer.bias else None


def whole_layer(moments: LayerMoments, images: int) -> RegionMoments:
    """Moments of all positions of a layer."""
    return region_moments(moments, range(len(moments.count)), images)


def regional_moments(moments: LayerMoments, tiles: Tiles, images: int) -> RegionMoments:
    """Moments of a region, given in cells of the layer's own fine grid."""
    return region_moments(moments, region_cells(tiles, moments.cells), images)


def layer_options(model: nn.Module, layer: Layer, calibration: Calibration, space: SearchSpace) -> list[Option]:
    """List the structures of a search space that a layer can take, with their spectra.

    Spectra are kept in ``calibration.memo``, so that another budget or a smaller space on the same calibration finds
    them there.

    Parameters
    ----------
    model : nn.Module
        The dense network.
    layer : Layer
        One of the calibration's.
    calibration : Calibration
        Of that network.
    space : SearchSpace
        What to choose from.

    Returns
    -------
    list of Option
        At least one: a layer with too few positions or channels for anything else has one region and one cluster.
    """
    work = _Work(model, layer, calibration, space.measure)
    found = [
        option
        for partition, grouping in space.pairs(layer.kind)
        if (option := _remembered(work, partition, grouping)) is not None
    ]
    if not found:
        option = _remembered(work, WHOLE, TOGETHER)
        assert option is not None
        found = [option]
    return found


def block_columns(layer: Layer, block: Block) -> torch.Tensor:
    """Features of a block in the flattened patch."""
    return columns_of(block.channels, layer.taps)


class _Work:
    """A layer in the making: what several of its structures share is computed once, when it is first asked for."""

    def __init__(self, model: nn.Module, layer: Layer, calibration: Calibration, measure: Measure) -> None:
        self.layer, self.calibration, self.measure = layer, calibration, measure
        self.moments = calibration.moments[layer.name]
        self.model = model
        self.shared: dict[object, object] = {}
        self.current: Partition | None = None
        self.found: list[_Place] = []

    def once(self, key: object, make: Callable[[], _T]) -> _T:
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]  # type: ignore[return-value]

    @property
    def weight(self) -> torch.Tensor:
        return self.once("weight", lambda: dense_weight(self.model, self.layer))

    @property
    def whole(self) -> RegionMoments:
        return self.once("whole", lambda: whole_layer(self.moments, self.calibration.images))

    def places(self, partition: Partition, tiles: list[Tiles]) -> list[_Place]:
        # Only the last partition's: covariances of a wide layer's regions would fill the memory together.
        if partition != self.current:
            self.found = []
            self.current, self.found = partition, [_place(self, part, _region(self, partition, part)) for part in tiles]
        return self.found

    def everywhere(self) -> Correlation:
        return self.once("correlation", lambda: _correlation(self.layer, self.whole))

    def scale(self) -> float:
        # Ranks of different layers are compared by the loss they save. Without the output's weight a layer's own unit
        # says nothing about the others', so it counts as a share of the layer's energy.
        if self.measure.weighting == "output":
            return 1.0
        return self.once("scale", lambda: 1 / max(self._own_energy() * self.whole.positions, 1e-30))

    def _own_energy(self) -> float:
        if self.measure.weighting == "none":
            return float(self.weight.square().sum(dtype=torch.float64))
        identity = torch.eye(self.layer.outputs, dtype=self.weight.dtype)
        return output_energy(dense_outputs(self.weight, self.whole), self.whole, identity)


@dataclass(frozen=True)
class _Place:
    """A region with what its clusters' spectra need."""

    tiles: Tiles
    seen: RegionMoments
    norm: Norm
    outputs: torch.Tensor  # of the dense layer, in the form that `spectrum` takes
    energy: float


def _remembered(work: _Work, partition: Partition, grouping: Grouping) -> Option | None:
    key = (work.layer.name, partition, grouping, work.measure)
    if key not in work.calibration.memo:
        make = _linear_option if work.layer.kind == "linear" else _conv_option
        work.calibration.memo[key] = make(work, partition, grouping)
    return work.calibration.memo[key]  # type: ignore[return-value]


def _conv_option(work: _Work, partition: Partition, grouping: Grouping) -> Option | None:
    layer = work.layer
    tiles: list[Tiles] | None = [((0, 1, 0, 1),)] if partition == WHOLE else partition.tiles(layer, work.moments)
    single = layer.positions == 1 and grouping != TOGETHER
    if tiles is None or single or _too_narrow(layer.inputs, grouping):
        return None
    regions, spectra, energies = [], [], []
    for place in work.places(partition, tiles):
        groups = [tuple(range(layer.inputs))]
        if grouping != TOGETHER:
            groups = grouping.groups(_correlation(layer, place.seen), work.everywhere)
        spectra += [_scaled(work, _block_spectrum(work, place, group)) for group in groups]
        regions.append(Region(place.tiles, tuple(Block(group) for group in groups)))
        energies.append(place.energy)
    cells = 1 if partition == WHOLE else work.moments.cells
    return Option(Structure("low_rank", cells, tuple(regions)), spectra, energies)


def _region(work: _Work, partition: Partition, tiles: Tiles) -> RegionMoments:
    return work.whole if partition == WHOLE else regional_moments(work.moments, tiles, work.calibration.images)


def _place(work: _Work, tiles: Tiles, seen: RegionMoments) -> _Place:
    norm = region_norm(seen, work.whole.sensitivity, work.measure.weighting, work.measure.shrinkage)
    outputs = dense_outputs(work.weight, seen)
    return _Place(tiles, seen, norm, outputs, output_energy(outputs, seen, norm.sensitivity))


def _block_spectrum(work: _Work, place: _Place, group: tuple[int, ...]) -> Spectrum:
    whole = len(group) == work.layer.inputs
    columns = columns_of(group, work.layer.taps)
    return spectrum(work.weight, place.seen, place.norm, columns, place.outputs if whole else None)


def _linear_option(work: _Work, partition: Partition, grouping: Grouping) -> Option | None:
    """Blocks of input features: a region of the flattened feature map times a cluster of its channels."""
    layer = work.layer
    grid = layer.input_grid
    if not isinstance(partition, Grid) or partition.rows > grid[0] or partition.columns > grid[1]:
        return None
    channels = layer.inputs // (grid[0] * grid[1])
    if _too_narrow(channels, grouping) or (grouping != TOGETHER and grid == (1, 1)):
        return None
    place = work.once("place", lambda: _place(work, ((0, 1, 0, 1),), work.whole))
    blocks = [
        Block(tuple(sorted(features[list(group)].reshape(-1).tolist())))
        for features in _input_regions(partition, grid, channels)
        for group in _linear_groups(work, grouping, features)
    ]
    known = place.outputs if len(blocks) == 1 else None
    spectra = [
        _scaled(work, spectrum(work.weight, place.seen, place.norm, torch.tensor(block.channels), known))
        for block in blocks
    ]  # fmt: skip
    region = Region(place.tiles, tuple(blocks))
    structure = Structure("low_rank", 1, (region,), input_regions=partition.rows * partition.columns)
    return Option(structure, spectra, [place.energy])


def _input_regions(partition: Grid, grid: tuple[int, int], channels: int) -> list[torch.Tensor]:
    """Features of each region of a flattened (C, rows, columns) map, as (C, positions)."""
    features = torch.arange(channels * grid[0] * grid[1]).reshape(channels, *grid)
    bands = features.tensor_split(partition.rows, dim=1)
    return [part.flatten(1) for band in bands for part in band.tensor_split(partition.columns, dim=2)]


def _linear_groups(work: _Work, grouping: Grouping, features: torch.Tensor) -> list[tuple[int, ...]]:
    if grouping == TOGETHER:
        return [tuple(range(len(features)))]
    root = work.whole.root
    assert root is not None

    def correlation(columns: torch.Tensor) -> Correlation:
        part = root[:, columns]
        return channel_correlation(part.T @ part, len(features))

    def everywhere() -> Correlation:
        return work.once("features", lambda: correlation(torch.arange(work.layer.inputs)))

    return grouping.groups(correlation(features.reshape(-1)), everywhere)


def _correlation(layer: Layer, region: RegionMoments) -> Correlation:
    assert region.covariance is not None
    return channel_correlation(region.covariance, layer.inputs)


def _too_narrow(channels: int, grouping: Grouping) -> bool:
    clusters = getattr(grouping, "clusters", 1)
    return clusters > 1 and channels < clusters * _FEWEST_CHANNELS


def _scaled(work: _Work, found: Spectrum) -> Spectrum:
    return Spectrum(found.values * work.scale(), found.directions)
