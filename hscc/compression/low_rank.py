"""Plans whose layers are factored region by region and cluster by cluster, with ranks bought under one budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.progress import track
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer, Rectangle
from hscc.calibration.moments import LayerMoments, RegionMoments, region_moments
from hscc.compression.allocation import Candidate, Choice, allocate, make_cluster
from hscc.compression.factors import RegionFactors, region_factors
from hscc.compression.fill import State, low_rank_state
from hscc.compression.partition import channel_correlation, cluster_channels, region_tiles, tile_cells
from hscc.compression.plan import LayerPlan
from hscc.compression.spectra import Spectrum, Weighting, columns_of, shrink_sensitivity, spectrum, weighting
from hscc.compression.structure import DENSE, Block, Region, Structure, rank_weights, tile_positions, with_ranks

Grouping = Callable[[Layer, RegionMoments, int], list[tuple[int, ...]]]
_FEWEST_CHANNELS = 8  # in a cluster: under the width of a SIMD register nothing is gained
_STEPS_AT_LEAST = 4  # a narrow cluster would have too few ranks to choose from; it takes them one by one


@dataclass(frozen=True)
class SearchSpace:
    """Structures to choose from, and the norm to choose in.

    Attributes
    ----------
    regions : sequence of (int, int)
        Grids of regions, rows by columns.
    clusters : sequence of int
        Channel clusters a region.
    grouping : callable
        (layer, region's moments, clusters) -> groups of input channels.
    shrinkage : float
        Of a region's sensitivity towards its layer's.
    multiple : int
        Ranks come in multiples of this, one by one in clusters narrower than four multiples.
    """

    regions: Sequence[tuple[int, int]]
    clusters: Sequence[int]
    grouping: Grouping
    shrinkage: float
    multiple: int


@dataclass
class _Option:
    """A structure with the spectra of its blocks, flat."""

    structure: Structure
    spectra: list[Spectrum]


def plan_low_rank(
    model: nn.Module, calibration: Calibration, limit: int, space: SearchSpace
) -> tuple[list[LayerPlan], dict[str, State]]:
    """Choose structure and ranks of every layer, and compute the weights.

    Parameters
    ----------
    model : nn.Module
        The dense network.
    calibration : Calibration
        Of the same network.
    limit : int
        MACs that all layers of the calibration may have together.
    space : SearchSpace
        What to choose from.

    Returns
    -------
    plans : list of LayerPlan
        One a layer.
    weights : dict
        Layer name to the state of its replacement.
    """
    options = [
        _options(dense_weight(model, layer), layer, calibration, space)
        for layer in track(calibration.layers, "spectra", transient=True)
    ]
    candidates = [
        [_candidate(layer, option, space.multiple) for option in choices]
        for layer, choices in zip(calibration.layers, options, strict=True)
    ]
    chosen = allocate(candidates, [layer.macs for layer in calibration.layers], limit)
    plans, weights = [], {}
    for layer, choices, offers, choice in zip(calibration.layers, options, candidates, chosen, strict=True):
        if choice.candidate < 0:
            plans.append(LayerPlan(layer, DENSE, 0.0, "no factorisation saves enough for what it loses"))
            continue
        structure, encoders = _with_choice(layer, choices[choice.candidate], offers[choice.candidate], choice)
        factors = _factors(model, layer, calibration, space, structure, encoders)
        plans.append(LayerPlan(layer, structure, sum(f.loss for f in factors)))
        weights[layer.name] = low_rank_state(layer, structure, factors)
    return plans, weights


def dense_weight(model: nn.Module, layer: Layer) -> torch.Tensor:
    """Weight of a layer, shape (C_out, d), on the CPU in at least float32."""
    weight = model.get_parameter(f"{layer.name}.weight").detach().cpu()
    return weight.reshape(layer.outputs, -1).to(torch.promote_types(weight.dtype, torch.float32))


def dense_bias(model: nn.Module, layer: Layer) -> torch.Tensor | None:
    """Bias of a layer, shape (C_out,), or None."""
    return model.get_parameter(f"{layer.name}.bias").detach().cpu() if layer.bias else None


def layer_region(moments: LayerMoments, layer: Layer, cells: int, tile: Rectangle, images: int) -> RegionMoments:
    """Moments of a tile, given in cells of a ``cells`` x ``cells`` grid."""
    return region_moments(moments, [0] if layer.positions == 1 else tile_cells(tile, cells), images)


def whole_layer(moments: LayerMoments, images: int) -> RegionMoments:
    """Moments of all positions of a layer."""
    return region_moments(moments, range(len(moments.count)), images)


def _options(weight: torch.Tensor, layer: Layer, calibration: Calibration, space: SearchSpace) -> list[_Option]:
    moments, images = calibration.moments[layer.name], calibration.images
    everywhere = whole_layer(moments, images).sensitivity
    found = []
    for rows, columns in _grids(layer, calibration.cells, space):
        seen = []
        for tile in region_tiles(rows, columns, calibration.cells):
            region = layer_region(moments, layer, calibration.cells, tile, images)
            seen.append((tile, region, weighting(region, everywhere, space.shrinkage)))
        for clusters in _cluster_counts(layer, space):
            regions, spectra = [], []
            for tile, region, norm in seen:
                groups = space.grouping(layer, region, clusters)
                regions.append(Region(tile, tuple(Block(group) for group in groups)))
                spectra += [_block_spectrum(weight, layer, region, norm, group) for group in groups]
            found.append(_Option(Structure("low_rank", calibration.cells, tuple(regions)), spectra))
    return found


def _block_spectrum(
    weight: torch.Tensor, layer: Layer, region: RegionMoments, norm: Weighting, group: tuple[int, ...]
) -> Spectrum:
    return spectrum(weight, region, norm, None if len(group) == layer.inputs else columns_of(layer, group))


def _grids(layer: Layer, cells: int, space: SearchSpace) -> list[tuple[int, int]]:
    if layer.positions == 1:
        return [(1, 1)]
    largest = (min(cells, layer.grid[0]), min(cells, layer.grid[1]))
    return [grid for grid in space.regions if grid[0] <= largest[0] and grid[1] <= largest[1]] or [(1, 1)]


def _cluster_counts(layer: Layer, space: SearchSpace) -> list[int]:
    if layer.kind == "linear":
        return [1]
    return [count for count in space.clusters if count == 1 or layer.inputs >= count * _FEWEST_CHANNELS] or [1]


def _candidate(layer: Layer, option: _Option, multiple: int) -> Candidate:
    blocks = [(region, block) for region in option.structure.regions for block in region.blocks]
    clusters = []
    for (region, block), found in zip(blocks, option.spectra, strict=True):
        macs = tile_positions(layer, option.structure, region) * rank_weights(layer, block)
        step = multiple if len(found.values) >= _STEPS_AT_LEAST * multiple else 1
        clusters.append(make_cluster(found.values.numpy(), macs, step))
    return Candidate(tuple(clusters))


def _with_choice(
    layer: Layer, option: _Option, candidate: Candidate, choice: Choice
) -> tuple[Structure, list[torch.Tensor]]:
    ranks = [int(c.ranks[:n].sum()) for c, n in zip(candidate.clusters, choice.steps, strict=True)]
    rows, encoders, index = [], [], 0
    for region in option.structure.regions:
        parts = []
        for block in region.blocks:
            full = torch.zeros(ranks[index], layer.features, dtype=option.spectra[index].encoder.dtype)
            full[:, columns_of(layer, block.channels)] = option.spectra[index].encoder[: ranks[index]]
            parts.append(full)
            index += 1
        rows.append([len(part) for part in parts])
        encoders.append(torch.cat(parts))
    return with_ranks(option.structure, rows), encoders


def _factors(
    model: nn.Module,
    layer: Layer,
    calibration: Calibration,
    space: SearchSpace,
    structure: Structure,
    encoders: list[torch.Tensor],
) -> list[RegionFactors]:
    moments, images = calibration.moments[layer.name], calibration.images
    everywhere = whole_layer(moments, images).sensitivity
    weight, bias = dense_weight(model, layer), dense_bias(model, layer)
    factors = []
    for region, encoder in zip(structure.regions, encoders, strict=True):
        seen = layer_region(moments, layer, structure.cells, region.tile, images)
        sensitivity = shrink_sensitivity(seen.sensitivity, everywhere, space.shrinkage)
        factors.append(region_factors(weight, bias, seen, sensitivity, encoder))
    return factors


def co_activation(seed: int) -> Grouping:
    """Group channels by how they fire together inside a region; see `cluster_channels`."""

    def grouping(layer: Layer, region: RegionMoments, clusters: int) -> list[tuple[int, ...]]:
        if clusters == 1 or region.covariance is None:
            return [tuple(range(layer.inputs))]
        return cluster_channels(channel_correlation(layer, region.covariance), clusters, seed)

    return grouping
