"""Rank maps as rows of a table and as pictures over the mean image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hscc.insight.pictures import Grey, Pictures, cells_over
from hscc.insight.rank_maps import RankMap, describe, full_rank

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
        A row a layer, as `hscc.stages.insight` lists them.
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
