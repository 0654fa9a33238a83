"""A layer's options as the allocation sees them, and the allocation's choice as a structure with ranks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hscc.calibration.layers import Layer
from hscc.compression.allocation import Candidate, Choice, Cluster, LayerOptions, Vector, make_cluster
from hscc.compression.cost_models import CostModel
from hscc.compression.search import Option
from hscc.compression.structure import DENSE, Structure, with_ranks

_STEPS_AT_LEAST = 4  # a narrow cluster would have too few ranks to choose from; it takes them one by one


def offers(layer: Layer, options: Sequence[Option], multiple: int, models: Sequence[CostModel]) -> LayerOptions:
    """Gains and costs of a layer's options.

    Parameters
    ----------
    layer : Layer
        The layer.
    options : sequence of Option
        What it may become.
    multiple : int
        Ranks come in multiples of this, if no resource asks for larger ones.
    models : sequence of CostModel
        One a resource.
    """
    dense = np.asarray([model.of_structure(layer, DENSE) for model in models], dtype=np.float64)
    return LayerOptions(tuple(_candidate(layer, option, multiple, models) for option in options), dense)


def chosen_structure(option: Option, candidate: Candidate, choice: Choice) -> Structure:
    """Put the ranks that were chosen into an option's structure."""
    ranks = [int(c.ranks[:n].sum()) for c, n in zip(candidate.clusters, choice.steps, strict=True)]
    remaining = iter(ranks)
    if len(ranks) == sum(len(region.blocks) for region in option.structure.regions):
        rows = [[next(remaining) for _ in region.blocks] for region in option.structure.regions]
    else:  # a rank a region, shared by its clusters
        rows = [[rank] * len(region.blocks) for region, rank in zip(option.structure.regions, ranks, strict=True)]
    return with_ranks(option.structure, rows)


def _candidate(layer: Layer, option: Option, multiple: int, models: Sequence[CostModel]) -> Candidate:
    equal = any(model.equal_clusters for model in models)
    coarse = max(model.rank_multiple for model in models)
    remaining = iter(option.spectra)
    clusters: list[Cluster] = []
    for region in option.structure.regions:
        values = [next(remaining).values.numpy() for _ in region.blocks]
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


def _cluster(values: Vector, cost: Vector, multiple: int, coarse: int) -> Cluster:
    step = multiple if len(values) >= _STEPS_AT_LEAST * multiple else 1
    return make_cluster(values, cost.tolist(), max(step, coarse))


def _forgone(option: Option, clusters: Sequence[Cluster]) -> float:
    """What equal ranks cannot reach: directions of a cluster beyond those of the narrowest of its region."""
    offered = sum(float(cluster.gains.sum()) for cluster in clusters)
    return max(sum(float(found.values.sum()) for found in option.spectra) - offered, 0.0)
