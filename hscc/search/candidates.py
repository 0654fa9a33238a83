"""The structures that a layer may take, their spectra, and what their ranks save and cost.

Spectra are kept with the calibration for the next budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hscc.budgets.resources import CostModel
from hscc.calibration.cache import OptionKey
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.factorisation.joint import JointFit, Term
from hscc.factorisation.projection import SHARES, projection_ranks
from hscc.factorisation.region_context import LayerContext, RegionContext, correlation
from hscc.factorisation.spectra import columns_of, rank_losses
from hscc.partitions.clusters import Correlation, Grouping, channel_correlation
from hscc.partitions.regions import Grid, Partition
from hscc.search.allocation import Candidate, Choice, Cluster, LayerOptions, Vector, make_cluster
from hscc.search.space import SINGLE_CLUSTER, SINGLE_REGION, SearchSpace
from hscc.structures.base import SIMD_WIDTH, Tiles, whole_tiles
from hscc.structures.block_terms import BlockTerms, block_terms
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region

FEWEST_CHANNELS = 8  # in a cluster: under the width of a SIMD register nothing is gained
_WIDE_INPUT = 128  # channels from which on a block term reads two SIMD registers of directions
_TERM_RANKS = (2 * SIMD_WIDTH, 3 * SIMD_WIDTH)
_MOST_TERMS = 6
_TERM_ROUNDS = 20  # of refinement after each further term: enough to tell what a number of terms can reach
_STEPS_AT_LEAST = 4  # a narrow cluster would have too few ranks to choose from; it takes them one by one


@dataclass(frozen=True)
class Option:
    """A structure without ranks, and what ranks would save.

    Attributes
    ----------
    structure : LowRank
        All ranks 0.
    saved : list of ndarray of float64
        Loss saved by each rank of its blocks, flat.
    lost : float
        Loss that no rank brings back.
    """

    structure: LowRank
    saved: list[Vector]
    lost: float = 0.0


@dataclass(frozen=True)
class TermsOption:
    """Block terms of one size, and what each further one saves.

    Attributes
    ----------
    structure : BlockTerms
        With one term.
    saved : ndarray of float64, shape (terms,)
        Loss saved by each term after the ones before it.
    lost : float
        Loss with all of them.
    fits : tuple of tuple of Term
        The terms of each number of them.
    """

    structure: BlockTerms
    saved: Vector
    lost: float
    fits: tuple[tuple[Term, ...], ...]


def layer_options(
    context: LayerContext, calibration: Calibration, space: SearchSpace
) -> list[Option | TermsOption]:  # fmt: skip
    """List the structures of a search space that a layer can take, with their spectra.

    Spectra are kept in ``calibration.cache``, so that another budget or a smaller space on the same calibration finds
    them there.

    Parameters
    ----------
    context : LayerContext
        Of the layer, with the loss weighting of the space.
    calibration : Calibration
        Of its network.
    space : SearchSpace
        What to choose from.

    Returns
    -------
    list of Option or TermsOption
        At least one: a layer with too few positions or channels for anything else has one region and one cluster.
    """
    layer = context.layer
    found = [
        option
        for partition, grouping in space.pairs(layer)
        for projection in _projections(layer, partition, grouping, space)
        if (option := _option(calibration, context, partition, grouping, projection)) is not None
    ]
    if not found:
        option = _option(calibration, context, SINGLE_REGION, SINGLE_CLUSTER, 0)
        assert option is not None
        found = [option]
    context.forget()
    terms = [_terms_option(calibration, context, *size) for size in term_sizes(layer, space)]
    return [*found, *(option for option in terms if option is not None)]


def term_sizes(layer: Layer, space: SearchSpace) -> tuple[tuple[int, int], ...]:
    """List the sizes (directions, rank) of block terms to try: those of a search space that fit into the layer.

    Terms read 32 directions, 16 of a narrow layer: multiples of the SIMD width, as grouped convolutions want them.
    """
    possible = layer.kind == "conv" and layer.taps > 1 and layer.positions > 1 and space.weighting.by == "output"
    if not possible:
        return ()
    read = 2 * SIMD_WIDTH if layer.inputs >= _WIDE_INPUT else SIMD_WIDTH
    sizes = [(read, rank) for rank in _TERM_RANKS] if space.terms == "auto" else list(space.terms)
    return tuple((r, s) for r, s in sizes if 2 * r <= layer.inputs and s <= min(layer.outputs, r * layer.taps))


def fit_terms(fit: JointFit, number: int, directions: int, rank: int) -> list[tuple[Term, ...]]:
    """Fit one, two, ... block terms, each to what those before it leave out, then all together for a few rounds.

    Parameters
    ----------
    fit : JointFit
        Of the layer.
    number : int
        Most terms.
    directions, rank : int
        Size of each.
    """
    found: list[tuple[Term, ...]] = []
    for _ in range(number):
        before = found[-1] if found else ()
        found.append(tuple(fit.refined([*before, fit.next_term(before, directions, rank)], _TERM_ROUNDS)))
    return found


def block_columns(layer: Layer, block: Block) -> torch.Tensor:
    """Features of a block in the flattened patch."""
    return columns_of(block.channels, layer.taps)


def _projections(layer: Layer, partition: Partition, grouping: Grouping, space: SearchSpace) -> tuple[int, ...]:
    """Numbers of directions to try: 0, and for kernels of several taps those of the space, in place of clusters."""
    possible = space.projections and layer.taps > 1 and grouping == SINGLE_CLUSTER and space.weighting.by != "none"
    if not possible or layer.positions == 1:  # of a single position a sketch is kept, and no covariance to project
        return (0,)
    if space.projections == "auto":
        shares = SHARES if partition == SINGLE_REGION else space.regional_shares
        return (0, *projection_ranks(layer.inputs, shares))
    return tuple(number for number in space.projections if number < layer.inputs) or (0,)


def _option(
    calibration: Calibration, context: LayerContext, partition: Partition, grouping: Grouping, projection: int
) -> Option | None:
    def compute() -> Option | None:
        if context.layer.kind == "linear":
            return _linear_option(context, partition, grouping)
        return _conv_option(context, partition, grouping, projection)

    key = OptionKey(context.layer.name, partition, grouping, projection, context.weighting)
    option = calibration.cache.option(key, compute)
    assert not isinstance(option, TermsOption)
    return option


def _terms_option(
    calibration: Calibration, context: LayerContext, directions: int, rank: int
) -> TermsOption | None:  # fmt: skip
    one = block_terms(1, directions, rank, context.layer.axes)
    number = min(_MOST_TERMS, (context.layer.macs // 2) // one.macs(context.layer))
    if not number:
        return None

    def compute() -> TermsOption:
        fit = context.joint_fit()
        fits = fit_terms(fit, number, directions, rank)
        losses = np.asarray([fit.energy, *map(fit.loss, fits)]) * context.whole.positions
        losses = np.minimum.accumulate(np.maximum(losses, 0.0))
        return TermsOption(one, -np.diff(losses), float(losses[-1]), tuple(fits))

    key = OptionKey(
        context.layer.name, SINGLE_REGION, SINGLE_CLUSTER, 0, context.weighting, term=(directions, rank)
    )  # fmt: skip
    option = calibration.cache.option(key, compute)
    assert isinstance(option, TermsOption)
    return option


def _conv_option(context: LayerContext, partition: Partition, grouping: Grouping, projection: int) -> Option | None:
    layer = context.layer
    whole: list[Tiles] = [whole_tiles(layer.axes)]
    tiles = whole if partition == SINGLE_REGION else partition.tiles(layer, context.moments)
    single = layer.positions == 1 and grouping != SINGLE_CLUSTER
    if tiles is None or single or _too_narrow(layer.inputs, grouping):
        return None
    regions, saved, lost = [], [], 0.0
    for region in context.of_regions(tiles, projection, covariance=grouping != SINGLE_CLUSTER):
        groups = [tuple(range(projection or layer.inputs))]
        if grouping != SINGLE_CLUSTER:
            groups = grouping.groups(correlation(layer, region.moments), context.correlation)
        saved += [_scaled(context, _block_losses(layer, region, group)) for group in groups]
        regions.append(Region(region.tiles, tuple(Block(group) for group in groups)))
        lost += region.lost * region.moments.positions * context.scale()
    cells = 1 if partition == SINGLE_REGION else context.moments.cells
    return Option(LowRank(cells, tuple(regions), projection=projection), saved, lost)


def _block_losses(layer: Layer, region: RegionContext, group: tuple[int, ...]) -> torch.Tensor:
    columns = columns_of(group, layer.taps)
    return rank_losses(region.weight, region.moments, region.norm, columns, *region.known(columns))


def _linear_option(context: LayerContext, partition: Partition, grouping: Grouping) -> Option | None:
    """Blocks of input features: a region of the flattened feature map times a cluster of its channels."""
    layer = context.layer
    grid = layer.input_grid
    if not isinstance(partition, Grid):
        return None
    parts = partition.along(len(grid))
    if any(number > size for number, size in zip(parts, grid, strict=True)):
        return None
    channels = layer.inputs // layer.input_positions
    if _too_narrow(channels, grouping) or (grouping != SINGLE_CLUSTER and layer.input_positions == 1):
        return None
    (whole,) = context.of_regions([whole_tiles(layer.axes)], 0)
    blocks = [
        Block(tuple(sorted(features[list(group)].reshape(-1).tolist())))
        for features in _input_regions(parts, grid, channels)
        for group in _linear_groups(context, grouping, features)
    ]
    known = (whole.outputs, whole.weighted) if len(blocks) == 1 else (None, None)
    saved = [
        _scaled(context, rank_losses(whole.weight, whole.moments, whole.norm, torch.tensor(block.channels), *known))
        for block in blocks
    ]  # fmt: skip
    region = Region(whole.tiles, tuple(blocks))
    return Option(LowRank(1, (region,), input_regions=math.prod(parts)), saved)


def _input_regions(parts: Sequence[int], grid: Sequence[int], channels: int) -> list[torch.Tensor]:
    """Features of each region of a flattened (C, *positions) map, as (C, positions)."""
    found = [torch.arange(channels * math.prod(grid)).reshape(channels, *grid)]
    for axis, number in enumerate(parts, start=1):
        found = [part for region in found for part in region.tensor_split(number, dim=axis)]
    return [region.flatten(1) for region in found]


def _linear_groups(context: LayerContext, grouping: Grouping, features: torch.Tensor) -> list[tuple[int, ...]]:
    if grouping == SINGLE_CLUSTER:
        return [tuple(range(len(features)))]
    root = context.whole.root
    assert root is not None

    def among(columns: torch.Tensor) -> Correlation:
        part = root[:, columns]
        return channel_correlation(part.T @ part, len(features))

    def everywhere() -> Correlation:
        return context.once("features", lambda: among(torch.arange(context.layer.inputs)))

    return grouping.groups(among(features.reshape(-1)), everywhere)


def _too_narrow(channels: int, grouping: Grouping) -> bool:
    clusters = getattr(grouping, "clusters", 1)
    return clusters > 1 and channels < clusters * FEWEST_CHANNELS


def _scaled(context: LayerContext, losses: torch.Tensor) -> Vector:
    scaled: Vector = (losses * context.scale()).numpy()
    return scaled


def rank_candidates(
    layer: Layer, options: Sequence[Option | TermsOption], multiple: int, models: Sequence[CostModel]
) -> LayerOptions:
    """What the ranks of a layer's options save and cost.

    Parameters
    ----------
    layer : Layer
        The layer.
    options : sequence of Option or TermsOption
        What it may become.
    multiple : int
        Ranks come in multiples of this, unless a resource needs larger ones.
    models : sequence of CostModel
        One per resource.
    """
    dense = np.asarray([model.of_structure(layer, DENSE) for model in models], dtype=np.float64)
    return LayerOptions(tuple(_candidate(layer, option, multiple, models) for option in options), dense)


def chosen_structure(option: Option | TermsOption, candidate: Candidate, choice: Choice) -> LowRank:
    """Put the ranks that were chosen, or the number of terms, into an option's structure."""
    if isinstance(option, TermsOption):
        return option.structure.with_terms(choice.steps[0])
    ranks = [int(c.ranks[:n].sum()) for c, n in zip(candidate.clusters, choice.steps, strict=True)]
    remaining = iter(ranks)
    if len(ranks) == sum(len(region.blocks) for region in option.structure.regions):
        rows = [[next(remaining) for _ in region.blocks] for region in option.structure.regions]
    else:  # one rank per region, shared by its clusters
        rows = [[rank] * len(region.blocks) for region, rank in zip(option.structure.regions, ranks, strict=True)]
    return option.structure.with_ranks(rows)


def _candidate(
    layer: Layer, option: Option | TermsOption, multiple: int, models: Sequence[CostModel]
) -> Candidate:  # fmt: skip
    if isinstance(option, TermsOption):
        return _terms_candidate(layer, option, models)
    equal = any(model.equal_clusters for model in models)
    coarse = max(model.rank_multiple for model in models)
    remaining = iter(option.saved)
    clusters: list[Cluster] = []
    for region in option.structure.regions:
        values = [next(remaining) for _ in region.blocks]
        costs = [
            np.asarray([model.of_rank(layer, option.structure, region, block) for model in models])
            for block in region.blocks
        ]
        if equal:
            shortest = min(map(len, values))
            together: Vector = np.sum([found[:shortest] for found in values], axis=0)
            clusters.append(_cluster(together, np.sum(costs, axis=0), multiple, coarse))
        else:
            clusters += [_cluster(found, cost, multiple, coarse) for found, cost in zip(values, costs, strict=True)]
    fixed = np.asarray([model.fixed(layer, option.structure) for model in models], dtype=np.float64)
    return Candidate(tuple(clusters), fixed, option.lost + _forgone(option, clusters))


def _terms_candidate(layer: Layer, option: TermsOption, models: Sequence[CostModel]) -> Candidate:
    """Each term is a step of one rank: all of them cost the same."""
    one, two = (
        np.asarray([model.of_structure(layer, option.structure.with_terms(count)) for model in models])
        for count in (1, 2)
    )
    each = np.maximum(two - one, 0.0)
    cluster = make_cluster(option.saved, each.tolist(), 1)
    forgone = float(option.saved.sum() - cluster.saved.sum())
    return Candidate((cluster,), np.maximum(one - each, 0.0), option.lost + max(forgone, 0.0))


def _cluster(values: Vector, cost: Vector, multiple: int, coarse: int) -> Cluster:
    step = multiple if len(values) >= _STEPS_AT_LEAST * multiple else 1
    return make_cluster(values, cost.tolist(), max(step, coarse))


def _forgone(option: Option, clusters: Sequence[Cluster]) -> float:
    """What equal ranks cannot reach: directions of a cluster beyond those of the narrowest of its region."""
    reachable = sum(float(cluster.saved.sum()) for cluster in clusters)
    return max(sum(float(found.sum()) for found in option.saved) - reachable, 0.0)
