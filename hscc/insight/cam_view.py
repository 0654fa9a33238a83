"""Examples of class-activation maps: each class's median and least alike image, networks side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hscc.insight.pictures import Grey, Pictures, glow_over, plain, side_by_side
from hscc.insight.similarity import Maps, Scores, pearson

Row = dict[str, Any]
Ints = npt.NDArray[np.int64]

MEDIAN, LEAST = "median", "least alike"
_SIDE = 168  # pixels of a panel; three fit a phone


def examples(similarity: Scores, labels: Ints) -> list[tuple[int, str]]:
    """Pick the images to show.

    Parameters
    ----------
    similarity : ndarray of float64, shape (N,)
        Of the two networks' maps; NaN is never picked.
    labels : ndarray of int64, shape (N,)
        Class indices.

    Returns
    -------
    list of (int, str)
        Position and kind, of each class the median image and, where there is another, the least alike one.
    """
    picked = []
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & np.isfinite(similarity))
        order = members[np.argsort(similarity[members], kind="stable")]
        if order.size:
            picked.append((int(order[len(order) // 2]), MEDIAN))
        if order.size > 1:
            picked.append((int(order[0]), LEAST))
    return picked


def cam_pictures(
    network: str,
    images: Sequence[Grey],
    chosen: Sequence[tuple[int, str]],
    dense: Maps,
    small: Maps,
    facts: Sequence[Row],
) -> tuple[list[Row], Pictures]:
    """Draw slice, dense network's map and compressed network's map of some images side by side.

    Parameters
    ----------
    network : str
        Name of the compressed one.
    images : sequence of ndarray of uint8, shape (S, S)
        The images of `chosen`.
    chosen : sequence of (int, str)
        From `examples`.
    dense, small : ndarray of float64, shape (N, rows, columns)
        Maps of all N images.
    facts : sequence of dict
        What else a row says of each image of `chosen`.

    Returns
    -------
    rows : list of dict
        ``network``, the facts, ``similarity``, ``example``, ``picture``.
    pictures : dict of str to Image
        By file name.
    """
    rows, pictures = [], {}
    for number, ((position, kind), image, fact) in enumerate(zip(chosen, images, facts, strict=True), 1):
        name = f"cam-{network}-{number}.png"
        panels = [plain(image)] + [glow_over(image, maps[position]) for maps in (dense, small)]
        pictures[name] = side_by_side(panels, ("slice", "dense", "compressed"), _SIDE)
        alike = float(pearson(dense[[position]], small[[position]])[0])
        rows.append({"network": network, **fact, "similarity": round(alike, 4), "example": kind, "picture": name})
    return rows, pictures
