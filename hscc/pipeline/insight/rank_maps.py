"""Maps of the rank over the feature map of a layer: the share of the full rank, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hscc.calibration.layers import Layer
from hscc.partitions.regions import region_cells
from hscc.pipeline.insight.pictures import Levels, Pictures, cells_over
from hscc.plans import LayerPlan
from hscc.structures.base import Structure

Shares = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RankMap:
    """Rank over the feature map of one layer.

    Attributes
    ----------
    layer : Layer
        The dense layer.
    structure : Structure
        What became of it.
    shares : ndarray of float64, shape (cells, cells) or (cells, cells, cells), or None
        Rank of the region that covers a cell, divided by the layer's full rank; 0 to 1. None where the factors have no
        rank over the whole layer that a share could be taken of (spatial SVD).
    region : ndarray of int64, shape of `shares`
        Index of the region that covers a cell.
    """

    layer: Layer
    structure: Structure
    shares: Shares | None
    region: Ids

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
    full = full_rank(entry.layer)
    cells, regions = entry.structure.cell_tiles(entry.layer)
    region = np.zeros((1, cells) if entry.layer.axes == 1 else (cells,) * entry.layer.axes, dtype=np.int64)
    for index, tiles in enumerate(regions):
        region.flat[region_cells(tiles, cells)] = index
    ranks = entry.structure.region_ranks(entry.layer)
    shares = None if ranks is None else (np.minimum(ranks, full) / full)[region]
    return RankMap(entry.layer, entry.structure, shares, region)


def describe(found: RankMap) -> str:
    """Say in one sentence what a picture of the map would show."""
    structure = found.structure
    if structure.rank_note or found.shares is None:
        return structure.rank_note
    full = full_rank(found.layer)
    ranks = np.rint(found.shares * full).astype(int)
    low, high = int(ranks.min()), int(ranks.max())
    spread = f"{low}" if low == high else f"{low} to {high}"
    count, clusters = structure.region_count, structure.cluster_count
    regions = "one region" if count == 1 else f"{count} regions"
    regions += " of the input" if found.is_flat and count > 1 else ""
    kept = "" if clusters <= count else f", {structure.kept_clusters} of {clusters} clusters kept"
    dropped = int((ranks == 0).sum())
    constant = f", {dropped} of {ranks.size} cells constant" if dropped else ""
    where = ", the same everywhere" if found.is_flat else ""
    return f"{regions}{kept}{constant}: rank {spread} of {full}{where}"


Row = dict[str, Any]


def rank_scale(maps: Sequence[RankMap]) -> float:
    """Return the largest share of the full rank of the maps that are drawn: the brightest colour of all pictures."""
    drawn = [found.shares.max() for found in maps if found.shares is not None and not found.is_flat]
    return float(max(drawn, default=1.0))


def summary(maps: Sequence[RankMap]) -> str:
    """Say in one sentence whether a network has regions and clusters to look at."""
    regional = [found.layer.name for found in maps if not found.is_flat]
    several = [found.structure for found in maps if found.structure.cluster_count > 1]
    kept, total = sum(each.kept_clusters for each in several), sum(each.cluster_count for each in several)
    clusters = f"; {kept} of their {total} spatio-channel clusters have a rank" if several else ""
    if not regional:
        return f"no layer has regions: its rank is the same everywhere, there is no map to draw{clusters}"
    return f"{len(regional)} of {len(maps)} layers have regions{clusters}"


def rank_rows(maps: Sequence[RankMap], mean: Levels) -> tuple[list[Row], Pictures]:
    """Tabulate rank maps, and draw those that are not flat.

    Parameters
    ----------
    maps : sequence of RankMap
        Of one network.
    mean : ndarray of uint8, shape (H, W) or (D, H, W)
        The mean image.

    Returns
    -------
    rows : list of dict
        One row per layer, as `hscc.pipeline.stages.insight` lists them.
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
            pictures[name] = cells_over(mean, in_plane(found.shares), in_plane(found.region), texts, scale)
        rows.append(_row(found, name))
    return rows, pictures


def in_plane(cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a map of two axes as it is, of three axes the cells of the middle slice."""
    return cells[len(cells) // 2] if cells.ndim == 3 else cells


def _row(found: RankMap, picture: str | None) -> Row:
    return {
        "layer": found.layer.name,
        "kind": found.structure.kind,
        "regions": found.structure.region_count,
        "clusters": found.structure.cluster_count,
        "kept": found.structure.kept_clusters,
        "positions": found.layer.positions,
        "grid": list(found.layer.grid),
        "full_rank": full_rank(found.layer),
        "rank_map": None if found.shares is None else np.round(in_plane(found.shares), 4).tolist(),
        "words": describe(found),
        "picture": picture,
    }
