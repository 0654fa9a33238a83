"""Similarity of two networks' maps of the same image, and of maps of different images for comparison.

Linear and rank correlation and the overlap of the most salient places are what saliency maps are commonly compared by
(Bylinskii et al., "What Do Different Evaluation Metrics Tell Us About Saliency Models?", TPAMI 2019; Adebayo et al.,
"Sanity Checks for Saliency Maps", NeurIPS 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from hscc.pipeline.insight.schema import MapSimilarity
from hscc.pipeline.statistics.bootstrap import Draws, resample, resampled_mean, standard_error

QUARTER = 0.25  # of the positions: the most salient ones

Maps = npt.NDArray[np.float64]
Scores = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def pearson(first: Maps, second: Maps) -> Scores:
    """Correlation of two maps of each image.

    Parameters
    ----------
    first, second : ndarray of float64, shape (N, rows, columns)
        Maps of the same images.

    Returns
    -------
    ndarray of float64, shape (N,)
        -1 to 1; NaN where a map is constant.
    """
    a, b = (_centred(maps) for maps in (first, second))
    norms = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    scores: Scores = np.divide((a * b).sum(1), norms, out=np.full(len(a), np.nan), where=norms > 0)
    return scores


def spearman(first: Maps, second: Maps) -> Scores:
    """Rank correlation of two maps of each image; see `pearson`."""
    a, b = (rankdata(maps.reshape(len(maps), -1), axis=1)[:, None] for maps in (first, second))
    return pearson(a, b)


def overlap(first: Maps, second: Maps) -> Scores:
    """Intersection over union of the top quarters of two maps of each image, shape (N,), 0 to 1."""
    a, b = top_quarter(first), top_quarter(second)
    both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    scores: Scores = both / either
    return scores


def top_quarter(maps: Maps) -> npt.NDArray[np.bool_]:
    """Mark the quarter of the positions, rounded up, that has the highest values; the same shape as `maps`."""
    flat = maps.reshape(len(maps), -1)
    count = math.ceil(QUARTER * flat.shape[1])
    marked = np.zeros(flat.shape, dtype=bool)
    np.put_along_axis(marked, np.argsort(-flat, axis=1, kind="stable")[:, :count], True, axis=1)
    return marked.reshape(maps.shape)


def by_class(
    network: str,
    first: Maps,
    second: Maps,
    labels: Ints,
    groups: Ints,
    classes: Sequence[str],
    resamples: int,
    seed: int,
) -> list[MapSimilarity]:
    """Average the similarity of two networks' maps over the images of each class.

    Parameters
    ----------
    network : str
        Name of the second network.
    first, second : ndarray of float64, shape (N, rows, columns)
        Maps of the same images by two networks.
    labels : ndarray of int64, shape (N,)
        True class indices.
    groups : ndarray of int64, shape (N,)
        Near-copies share a group and are drawn together by the bootstrap.
    classes : sequence of str
        The class names.
    resamples, seed : int
        Of the bootstrap.

    Returns
    -------
    list of MapSimilarity
        One per class that has images with a map; `chance` is of neighbouring images of different groups.
    """
    rows = []
    scores = pearson(first, second), spearman(first, second), overlap(first, second)
    for index, name in enumerate(classes):
        members = np.flatnonzero((labels == index) & np.isfinite(scores[0]))
        if not members.size:
            continue
        weights = resample(groups[members], resamples, seed)
        (mean, se), (ranked, ranked_se), (shared, shared_se) = (_mean(found[members], weights) for found in scores)
        rows.append(
            MapSimilarity(
                network=network,
                label=name,
                n=int(members.size),
                mean=mean,
                se=se,
                spearman=ranked,
                spearman_se=ranked_se,
                iou=shared,
                iou_se=shared_se,
                chance=_chance(first, second, groups, members),
            )
        )
    return rows


def _mean(values: Scores, weights: Draws) -> tuple[float, float | None]:
    error = standard_error(resampled_mean(values, weights))
    return float(values.mean()), error if math.isfinite(error) else None


def _chance(first: Maps, second: Maps, groups: Ints, members: Ints) -> float | None:
    """Mean correlation of maps of neighbouring images of different groups, the last with the first."""
    others = np.roll(members, -1)
    apart = groups[members] != groups[others]
    found = pearson(first[members[apart]], second[others[apart]])
    found = found[np.isfinite(found)]
    return float(found.mean()) if found.size else None


def _centred(maps: Maps) -> Maps:
    flat = maps.reshape(len(maps), maps.shape[1] * maps.shape[2])  # -1 fails for no maps
    centred: Maps = flat - flat.mean(1, keepdims=True)
    return centred
