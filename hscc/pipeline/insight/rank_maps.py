"""Where a layer kept its rank: the share of the full rank, cell by cell of the feature map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hscc.calibration.layers import Layer
from hscc.partitions.regions import region_cells
from hscc.pipeline.insight.pictures import Grey, Pictures, cells_over
from hscc.plans import LayerPlan

Shares = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RankMap:
    """Rank over the feature map of one layer.

    Attributes
    ----------
    layer : Layer
        The dense layer.
    kind : str
        "dense", "low_rank", "tucker" or "spatial".
    shares : ndarray of float64, shape (cells, cells), or None
        Rank of the region that covers a cell, divided by the layer's full rank; 0 to 1. None where the factors have no
        rank over the whole layer that a share could be taken of (spatial SVD).
    region : ndarray of int64, shape (cells, cells)
        Index of the region that covers a cell.
    regions : int
        Regions of output positions, or of the input of a linear layer.
    clusters : int
        Spatio-channel clusters, of all regions together.
    kept : int
        Those of them whose rank is not 0.
    """

    layer: Layer
    kind: str
    shares: Shares | None
    region: Ids
    regions: int
    clusters: int
    kept: int

    @property
    def is_flat(self) -> bool:
        """Whether there is nothing to draw: one region, the same everywhere."""
        return self.shares is None or int(self.region.max()) == 0


def full_rank(layer: Layer) -> int:
    """Most rank that the layer's weight, an outputs by features matrix, can have."""
    return min(layer.outputs, layer.features)


def rank_map(entry: LayerPlan) -> RankMap:
    """Lay a layer's ranks out over its feature map.

    A region's rank is the sum of its clusters' ranks, at most the full rank. Positions of the feature map stand for the
    same fractions of the image's height and width: padded convolutions keep them so, but for a few pixels.

    Parameters
    ----------
    entry : LayerPlan
        What became of the layer.

    Returns
    -------
    RankMap
        Of one cell where the layer has one region.
    """
    layer, structure = entry.layer, entry.structure
    full = full_rank(layer)
    region = np.zeros((structure.cells, structure.cells), dtype=np.int64)
    if structure.kind == "low_rank":
        shares = np.zeros(region.shape)
        for index, found in enumerate(structure.regions):
            cells = region_cells(found.tiles, structure.cells)
            region.flat[cells] = index
            shares.flat[cells] = min(found.rank, full) / full
        blocks = [block for found in structure.regions for block in found.blocks]
        kept = sum(block.rank > 0 for block in blocks)
        return RankMap(layer, structure.kind, shares, region, structure.region_count, len(blocks), kept)
    return RankMap(layer, structure.kind, _uniform(entry, full), region, 1, 1, 1)


def describe(found: RankMap) -> str:
    """Say in one sentence what a picture of the map would show."""
    if found.kind == "dense":
        return "left as it was, full rank everywhere"
    if found.shares is None:
        return "spatial SVD: no rank over the whole layer"
    full = full_rank(found.layer)
    ranks = np.rint(found.shares * full).astype(int)
    low, high = int(ranks.min()), int(ranks.max())
    spread = f"{low}" if low == high else f"{low} to {high}"
    places = "one region" if found.regions == 1 else f"{found.regions} regions"
    places += " of the input" if found.is_flat and found.regions > 1 else ""
    clusters = "" if found.clusters <= found.regions else f", {found.kept} of {found.clusters} clusters kept"
    dropped = int((ranks == 0).sum())
    constant = f", {dropped} of {ranks.size} cells constant" if dropped else ""
    where = ", the same everywhere" if found.is_flat else ""
    return f"{places}{clusters}{constant}: rank {spread} of {full}{where}"


def _uniform(entry: LayerPlan, full: int) -> Shares | None:
    kind, (inner, outer) = entry.structure.kind, entry.structure.core
    if kind == "spatial":
        return None
    rank = full if kind == "dense" else min(inner * entry.layer.taps, outer)
    return np.full((1, 1), min(rank, full) / full)


Row = dict[str, Any]


def rank_scale(maps: Sequence[RankMap]) -> float:
    """Return the largest share of the full rank of the maps that are drawn: the brightest colour of all pictures."""
    drawn = [found.shares.max() for found in maps if found.shares is not None and not found.is_flat]
    return float(max(drawn, default=1.0))


def summary(maps: Sequence[RankMap]) -> str:
    """Say in one sentence whether a network has regions and clusters to look at."""
    regional = [found.layer.name for found in maps if not found.is_flat]
    several = [found for found in maps if found.clusters > 1]
    kept, all_of_them = sum(found.kept for found in several), sum(found.clusters for found in several)
    clusters = f"; {kept} of their {all_of_them} spatio-channel clusters have a rank" if several else ""
    if not regional:
        return f"no layer has regions: its rank is the same everywhere, there is no map to draw{clusters}"
    return f"{len(regional)} of {len(maps)} layers have regions{clusters}"


def rank_rows(maps: Sequence[RankMap], mean: Grey) -> tuple[list[Row], Pictures]:
    """Tabulate rank maps, and draw those that are not flat.

    Parameters
    ----------
    maps : sequence of RankMap
        Of one network.
    mean : ndarray of uint8, shape (S, S)
        The mean image.

    Returns
    -------
    rows : list of dict
        A row a layer, as `hscc.pipeline.stages.insight` lists them.
    pictures : dict of str to Image
        By file name; a number in a region is its share of the full rank in per cent.
    """
    scale = rank_scale(maps)
    rows, pictures = [], {}
    for found in maps:
        name = None
        if found.shares is not None and not found.is_flat:
            name = f"rank-{found.layer.name}.png"
            shares = [found.shares[found.region == index].flat[0] for index in range(found.region.max() + 1)]
            texts = [f"{100 * share:.0f}%" for share in shares]
            pictures[name] = cells_over(mean, found.shares, found.region, texts, scale)
        rows.append(_row(found, name))
    return rows, pictures


def _row(found: RankMap, picture: str | None) -> Row:
    return {
        "layer": found.layer.name,
        "kind": found.kind,
        "regions": found.regions,
        "clusters": found.clusters,
        "kept": found.kept,
        "positions": found.layer.positions,
        "grid": list(found.layer.grid),
        "full_rank": full_rank(found.layer),
        "rank_map": None if found.shares is None else np.round(found.shares, 4).tolist(),
        "words": describe(found),
        "picture": picture,
    }
