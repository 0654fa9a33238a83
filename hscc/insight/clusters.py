"""The spatio-channel clusters of a compressed network, and the modules that hold them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from hscc.compression.modules import ClusteredConv2d, ClusteredLinear
from hscc.compression.plan import LayerPlan, Plan
from hscc.compression.structure import Tiles


@dataclass(frozen=True)
class Cluster:
    """One spatio-channel cluster that has a rank.

    Attributes
    ----------
    layer : str
        Module path of its layer.
    region, cluster : int
        Index of its region in the plan, and of it in the region.
    tiles : Tiles
        Where the region is, in cells of the layer's grid.
    cells : int
        Cells a side that tiles are counted in.
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
class Place:
    """A region's module with the clusters inside.

    Attributes
    ----------
    module : nn.Module
        Encoders and a decoder; the decoder reads the rank channels of all clusters.
    clusters : tuple of Cluster
        Those with a rank.
    """

    module: ClusteredConv2d | ClusteredLinear
    clusters: tuple[Cluster, ...]


def clustered_layers(model: nn.Module, plan: Plan) -> dict[str, list[Place]]:
    """Find the modules of the layers that have more than one cluster.

    Parameters
    ----------
    model : nn.Module
        Made from the plan.
    plan : Plan
        What became of each layer.

    Returns
    -------
    dict of str to list of Place
        By layer, in the order of execution; regions of rank 0, which put out a constant, have no place.
    """
    found = {entry.layer.name: list(_places(model, entry)) for entry in plan.layers}
    return {name: places for name, places in found.items() if sum(len(place.clusters) for place in places) > 1}


def _places(model: nn.Module, entry: LayerPlan) -> Iterator[Place]:
    top = model.get_submodule(entry.layer.name)
    modules = [module for module in top.modules() if isinstance(module, ClusteredConv2d | ClusteredLinear)]
    ranked = [(index, region) for index, region in enumerate(entry.structure.regions) if region.rank]
    for module, (index, region) in zip(modules, ranked, strict=True):
        clusters, start = [], 0
        for number, block in enumerate(region.blocks):
            if block.rank:
                size = len(block.channels)
                where = (region.tiles, entry.structure.cells)
                clusters.append(Cluster(entry.layer.name, index, number, *where, size, block.rank, start))
                start += block.rank
        yield Place(module, tuple(clusters))
