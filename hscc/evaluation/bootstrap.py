"""Bootstrap: how far every score would move on another test set of the same kind.

Resampling draws whole groups of near-copies, because near-copies are not independent evidence: with groups of one image
this is the ordinary bootstrap, with larger ones the cluster bootstrap (Davison and Hinkley, "Bootstrap Methods and
their Application", 1997, section 3.8). A resample is a row of weights, how often each image was drawn; all scores are
sums over the images, so one matrix product gives a score in all resamples at once. Networks scored with the same
weights are paired.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from hscc.evaluation.metrics import ECE_BINS, Floats, Ints, confidence_bins, confidence_gaps

Draws = npt.NDArray[np.float64]


def resample(groups: Ints, resamples: int, seed: int) -> Draws:
    """Draw whole groups with replacement.

    Parameters
    ----------
    groups : ndarray of int64, shape (N,)
        Group of each image; images of one group are drawn together.
    resamples : int
        Number B of resamples.
    seed : int
        Seed of the draws.

    Returns
    -------
    ndarray of float64, shape (B, N)
        How often each image is in each resample; a whole number.
    """
    _, member_of = np.unique(groups, return_inverse=True)
    count = int(member_of.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=resamples)
    return drawn[:, member_of].astype(np.float64)


def resampled_scores(labels: Ints, logits: Floats, weights: Draws, classes: Sequence[str]) -> dict[str, Draws]:
    """Every score of `hscc.evaluation.metrics.score` in every resample.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    logits : ndarray of float, shape (N, C)
        What the network put out.
    weights : ndarray of float64, shape (B, N)
        From `resample`.
    classes : sequence of str
        The C class names.

    Returns
    -------
    dict of str to ndarray of float64, shape (B,)
        The keys of `score`; NaN where a resample leaves a score undefined.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    confusion = resampled_confusion(labels, logits.argmax(axis=1), weights, len(classes))
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    precision = _ratio(hits, confusion.sum(axis=1))
    recall = _ratio(hits, confusion.sum(axis=2))
    f1 = _ratio(2 * hits, confusion.sum(axis=1) + confusion.sum(axis=2))
    draws = {
        "accuracy": hits.sum(axis=1) / weights.sum(axis=1),
        "balanced_accuracy": _balanced_accuracy(hits, confusion.sum(axis=2)),
        "macro_f1": f1.mean(axis=1),
        "roc_auc": _roc_auc(labels, probabilities, weights),
        "ece": _calibration_error(labels, probabilities, weights),
        "brier": resampled_mean(np.square(probabilities - np.eye(len(classes))[labels]).sum(axis=1), weights),
    }
    for index, name in enumerate(classes):
        draws[f"precision_{name}"] = precision[:, index]
        draws[f"recall_{name}"] = recall[:, index]
        draws[f"f1_{name}"] = f1[:, index]
    return draws


def resampled_confusion(labels: Ints, predicted: Ints, weights: Draws, classes: int) -> Draws:
    """Confusion matrices of all resamples, shape (B, C, C): true class by predicted class."""
    cell = labels * classes + predicted
    one_hot = (cell[:, None] == np.arange(classes * classes)).astype(np.float64)
    counts: Draws = (weights @ one_hot).reshape(-1, classes, classes)
    return counts


def resampled_mean(values: Floats, weights: Draws) -> Draws:
    """Mean of a figure an image, shape (N,), in every resample, shape (B,)."""
    means: Draws = weights @ values / weights.sum(axis=1)
    return means


def standard_error(draws: Draws) -> float:
    """Take the standard deviation over the resamples in which the score is defined; NaN when fewer than two are."""
    defined = draws[np.isfinite(draws)]
    return float(np.std(defined, ddof=1)) if defined.size > 1 else float("nan")


def interval(draws: Draws, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the fraction `level` of the resamples in which the score is defined; NaN where none is."""
    defined = draws[np.isfinite(draws)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _balanced_accuracy(hits: Draws, images: Draws) -> Draws:
    balanced: Draws = _ratio(hits, images).sum(axis=1) / (images > 0).sum(axis=1)
    return balanced


def _ratio(above: Draws, below: Draws) -> Draws:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _roc_auc(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    areas = [_area(labels == index, probabilities[:, index], weights) for index in range(probabilities.shape[1])]
    mean: Draws = np.mean(areas, axis=0)
    return mean


def _area(positive: npt.NDArray[np.bool_], scores: Floats, weights: Draws) -> Draws:
    """Mann-Whitney form of the area: the share of (positive, negative) pairs in the right order, ties counting half."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    ties = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # where each run of equal scores starts
    above = np.add.reduceat(weights[:, order] * positive[order], ties, axis=1)
    below = np.add.reduceat(weights[:, order] * ~positive[order], ties, axis=1)
    lower = np.cumsum(below, axis=1) - below
    pairs = above.sum(axis=1) * below.sum(axis=1)
    ordered = (above * (lower + below / 2)).sum(axis=1)
    area: Draws = np.divide(ordered, pairs, out=np.full_like(ordered, np.nan), where=pairs > 0)
    return area


def _calibration_error(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    in_bin = confidence_bins(probabilities)[:, None] == np.arange(ECE_BINS)
    gaps = weights @ (confidence_gaps(labels, probabilities)[:, None] * in_bin)
    error: Draws = np.abs(gaps).sum(axis=1) / weights.sum(axis=1)
    return error
