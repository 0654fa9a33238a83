"""Importance of each spatio-channel cluster: how far the logit of an image's own class falls without it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import nn

from hscc.pipeline.insight.pictures import Levels, Pictures, cells_over
from hscc.pipeline.insight.rank_maps import RankMap, in_plane
from hscc.pipeline.statistics.bootstrap import Draws, resample, resampled_mean, standard_error
from hscc.plans import LayerPlan, Plan
from hscc.structures.base import Tiles
from hscc.structures.low_rank import ClusteredConv, ClusteredLinear, LowRank

Importances = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Batch = tuple[torch.Tensor, torch.Tensor]
Row = dict[str, Any]
_Calls = dict[nn.Module, list[torch.Tensor]]  # a module that serves several tiles is called several times


@dataclass(frozen=True)
class Cluster:
    """One spatio-channel cluster that has a rank.

    Attributes
    ----------
    layer : str
        Module path of its layer.
    region, cluster : int
        Index of its region in the plan, and its own in the region.
    tiles : Tiles
        Of the region, in cells of the layer's grid.
    cells : int
        Cells per side that tiles are counted in.
    channels : int
        Input channels (or features, or directions of a projection) that it reads.
    rank : int
        Of its factors; 1 or more.
    start : int
        Where its rank channels begin among those that the region's decoder reads.
    """

    layer: str
    region: int
    cluster: int
    tiles: Tiles
    cells: int
    channels: int
    rank: int
    start: int


@dataclass(frozen=True)
class ClusteredRegion:
    """The module of a region, with its clusters.

    Attributes
    ----------
    module : nn.Module
        Encoders and a decoder; the decoder reads the rank channels of all clusters.
    clusters : tuple of Cluster
        Those with a rank.
    """

    module: ClusteredConv | ClusteredLinear
    clusters: tuple[Cluster, ...]


def clustered_layers(model: nn.Module, plan: Plan) -> dict[str, list[ClusteredRegion]]:
    """Find the modules of the layers that have more than one cluster.

    Parameters
    ----------
    model : nn.Module
        Made from the plan.
    plan : Plan
        What became of each layer.

    Returns
    -------
    dict of str to list of ClusteredRegion
        By layer, in the order of execution, without regions of rank 0, whose output is constant.
    """
    found = {entry.layer.name: list(_regions(model, entry)) for entry in plan.layers}
    return {name: regions for name, regions in found.items() if sum(len(each.clusters) for each in regions) > 1}


def _regions(model: nn.Module, entry: LayerPlan) -> Iterator[ClusteredRegion]:
    if not isinstance(entry.structure, LowRank):
        return
    top = model.get_submodule(entry.layer.name)
    modules = [module for module in top.modules() if isinstance(module, ClusteredConv | ClusteredLinear)]
    ranked = [(index, region) for index, region in enumerate(entry.structure.regions) if region.rank]
    for module, (index, region) in zip(modules, ranked, strict=True):
        clusters, start = [], 0
        for number, block in enumerate(region.blocks):
            if block.rank:
                size = len(block.channels)
                where = (region.tiles, entry.structure.cells)
                clusters.append(Cluster(entry.layer.name, index, number, *where, size, block.rank, start))
                start += block.rank
        yield ClusteredRegion(module, tuple(clusters))


def cluster_importances(model: nn.Module, plan: Plan, batches: Sequence[Batch]) -> tuple[list[Cluster], Importances]:
    """Remove every cluster of the layers that have several in turn: the decoder reads the mean of its rank channels.

    What does not depend on the cluster, earlier layers and the other regions of its own, is computed once per batch.

    Parameters
    ----------
    model : nn.Module
        Compressed network in evaluation mode; left as it was.
    plan : Plan
        What it was made from.
    batches : sequence of (Tensor, Tensor)
        Inputs (n, C, H, W) and class indices (n,) of N images in all.

    Returns
    -------
    clusters : list of Cluster
        Those with a rank.
    importances : ndarray of float64, shape (clusters, N)
        Fall of the centred logit of each image's own class.
    """
    layers = clustered_layers(model, plan)
    regions = [region for found in layers.values() for region in found]
    clusters = [cluster for region in regions for cluster in region.clusters]
    if not clusters:
        return [], np.zeros((0, sum(len(labels) for _, labels in batches)))
    order = [model.get_submodule(entry.layer.name) for entry in plan.layers]
    with torch.inference_mode():
        means = _means(model, [region.module.decoder for region in regions], batches)
        parts = [_of_batch(model, order, layers, means, *batch) for batch in track(batches, "removing clusters")]
    return clusters, np.concatenate(parts, axis=1)


def _means(model: nn.Module, decoders: Sequence[nn.Module], batches: Sequence[Batch]) -> _Calls:
    """Mean of the rank channels that each decoder reads, (1, ranks, rows, columns) per call."""
    sums: _Calls = {}
    for inputs, _ in batches:
        with _recording(decoders, inputs_too=True) as recorded:
            model(inputs)
        for decoder, calls in recorded.items():
            added = [call.sum(0, keepdim=True) for call in calls]
            before = sums.get(decoder)
            sums[decoder] = added if before is None else [a + b for a, b in zip(before, added, strict=True)]
    images = sum(len(labels) for _, labels in batches)
    return {decoder: [total / images for total in totals] for decoder, totals in sums.items()}


def _of_batch(
    model: nn.Module,
    order: Sequence[nn.Module],
    layers: Mapping[str, Sequence[ClusteredRegion]],
    means: _Calls,
    inputs: torch.Tensor,
    labels: torch.Tensor,
) -> Importances:
    modules = [region.module for regions in layers.values() for region in regions]
    with _recording([*order, *modules]) as outputs:
        whole = _centred(model(inputs), labels)
    falls = []
    for name, regions in layers.items():
        earlier = order[: order.index(model.get_submodule(name))]
        for region in regions:
            others = [other.module for other in regions if other is not region]
            with _recalling({module: outputs[module] for module in (*earlier, *others)}):
                for cluster in region.clusters:
                    with _without(cluster, region.module.decoder, means[region.module.decoder]):
                        falls.append(whole - _centred(model(inputs), labels))
    return torch.stack(falls).double().cpu().numpy()


def _centred(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return own - logits.mean(1)


@contextmanager
def _recording(modules: Sequence[nn.Module], inputs_too: bool = False) -> Iterator[_Calls]:
    """Keep the outputs of modules, or their inputs, call by call."""
    recorded: _Calls = {module: [] for module in modules}

    def keep(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        # A copy: an activation that works in place may follow.
        recorded[module].append((inputs[0] if inputs_too else output).clone())

    handles = [module.register_forward_hook(keep) for module in recorded]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _recalling(outputs: _Calls) -> Iterator[None]:
    """Let modules return their recorded outputs, without computing them."""
    for module, calls in outputs.items():
        module.forward = _Recall(calls)
    try:
        yield
    finally:
        for module in outputs:
            del module.forward


class _Recall:
    """Stand-in for a module's forward that gives recorded outputs in turn, over and over."""

    def __init__(self, calls: Sequence[torch.Tensor]) -> None:
        self._calls = cycle(calls)

    def __call__(self, *_: torch.Tensor) -> torch.Tensor:
        return next(self._calls).clone()


@contextmanager
def _without(cluster: Cluster, decoder: nn.Module, means: Sequence[torch.Tensor]) -> Iterator[None]:
    """Let a decoder read the mean instead of one cluster's rank channels."""
    turn = cycle(means)
    span = slice(cluster.start, cluster.start + cluster.rank)

    def replace(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        hidden = inputs[0].clone()
        hidden[:, span] = next(turn)[:, span]
        return (hidden,)

    handle = decoder.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def importance_rows(
    clusters: Sequence[Cluster],
    importances: Importances,
    labels: Ints,
    groups: Ints,
    classes: Sequence[str],
    resamples: int,
    seed: int,
) -> list[Row]:
    """Average importances over the images of each class.

    Parameters
    ----------
    clusters : sequence of Cluster
        Rows of `importances`.
    importances : ndarray of float64, shape (clusters, N)
        From `cluster_importances`.
    labels, groups : ndarray of int64, shape (N,)
        Class index and group of near-copies of each image.
    classes : sequence of str
        The class names.
    resamples, seed : int
        Of the bootstrap over groups.

    Returns
    -------
    list of dict
        One row per cluster; None for a class without images.
    """
    drawn: dict[int, tuple[Ints, Draws]] = {}
    for index in range(len(classes)):
        members = np.flatnonzero(labels == index)
        if members.size:
            drawn[index] = members, resample(groups[members], resamples, seed)
    rows = []
    for cluster, falls in zip(clusters, importances, strict=True):
        means: list[float | None] = [None] * len(classes)
        errors: list[float | None] = [None] * len(classes)
        for index, (members, weights) in drawn.items():
            error = standard_error(resampled_mean(falls[members], weights))
            means[index] = round(float(falls[members].mean()), 4)
            errors[index] = round(error, 4) if math.isfinite(error) else None
        where = {"layer": cluster.layer, "region": cluster.region, "cluster": cluster.cluster}
        position = {"tiles": [list(tile) for tile in cluster.tiles], "cells": cluster.cells}
        size = {"channels": cluster.channels, "rank": cluster.rank}
        rows.append({**where, **position, **size, "per_class": means, "per_class_se": errors})
    return rows


def importance_pictures(
    rows: Sequence[Row], maps: Sequence[RankMap], classes: Sequence[str], means: Mapping[str, Levels]
) -> tuple[list[Row], Pictures]:
    """Draw the last layer that has regions, one picture per class.

    Parameters
    ----------
    rows : sequence of dict
        From `importance_rows`.
    maps : sequence of RankMap
        Of the network's layers.
    classes : sequence of str
        The class names.
    means : mapping of str to ndarray of uint8, shape (H, W) or (D, H, W)
        Mean image by class; classes without one are left out.

    Returns
    -------
    index : list of dict
        ``layer``, ``class``, ``picture``; empty where no layer has regions.
    pictures : dict of str to Image
        By file name; a number in a region is the fall of the class's centred logit, its clusters added.
    """
    regional = [found for found in maps if not found.is_flat]
    if not regional:
        return [], {}
    last = regional[-1]
    total = np.zeros((int(last.region.max()) + 1, len(classes)))
    for row in rows:
        if row["layer"] == last.layer.name:
            total[row["region"]] += [value or 0.0 for value in row["per_class"]]
    index, pictures = [], {}
    for number, name in enumerate(classes):
        if name in means:
            own = total[:, number]
            texts = [f"{round(value, 2) + 0.0:+.2f}" for value in own]  # never minus zero; the font has no true minus
            picture = f"importance-{last.layer.name}-{number}.png"  # a class may have a slash in its name
            cells = in_plane(last.region)
            pictures[picture] = cells_over(means[name], own[cells], cells, texts, float(total.max()))
            index.append({"layer": last.layer.name, "class": name, "picture": picture})
    return index, pictures
