"""Scores of networks that answer several labels, each present or not, or values; for any weights of the images.

A score takes answers and truth of N images and weights, shape (B, N), and gives one figure for each row of the weights.
What is undefined for a label (its area without an image that has it, say) is NaN there and left out of the mean over
the labels, which is NaN where nothing is left.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Weights = npt.NDArray[np.float64]
PerOutput = dict[str, Weights]

Score = Callable[[Floats, Floats, Weights], Weights]
"""Of answers, shape (N, K), truth, shape (N, K), and weights, shape (B, N): a figure per row of the weights, (B,)."""


def label_scores(logits: Floats, truth: Floats, weights: Weights) -> PerOutput:
    """Score each of K labels.

    Parameters
    ----------
    logits : ndarray of float, shape (N, K)
        A label is taken as present where its logit is above 0: from a probability of one half.
    truth : ndarray of float, shape (N, K)
        1 where the image has the label, else 0.
    weights : ndarray of float64, shape (B, N)
        Of the images.

    Returns
    -------
    dict of str to ndarray of float64, shape (B, K)
        roc_auc, average_precision, precision, recall, f1, label_accuracy.
    """
    positive, found = truth > 0.5, logits > 0
    present, taken, hits = (weights @ each.astype(np.float64) for each in (positive, found, positive & found))
    right = weights @ (positive == found).astype(np.float64)
    labels = range(logits.shape[1])
    return {
        "roc_auc": np.stack([roc_area(positive[:, k], logits[:, k], weights) for k in labels], axis=1),
        "average_precision": np.stack([_average_precision(positive[:, k], logits[:, k], weights) for k in labels], 1),
        "precision": _ratio(hits, taken),
        "recall": _ratio(hits, present),
        "f1": _ratio(2 * hits, taken + present),
        "label_accuracy": right / weights.sum(axis=1, keepdims=True),
    }


def value_scores(answers: Floats, truth: Floats, weights: Weights) -> PerOutput:
    """Score each of K values.

    Parameters
    ----------
    answers, truth : ndarray of float, shape (N, K)
        In any unit.
    weights : ndarray of float64, shape (B, N)
        Of the images.

    Returns
    -------
    dict of str to ndarray of float64, shape (B, K)
        r2 (share of the variance that is explained: 1 less the squared error over that of the mean), mae and rmse (mean
        absolute error and root of the mean squared one, in the value's unit).
    """
    true = truth.astype(np.float64)
    errors = answers.astype(np.float64) - true
    total = weights.sum(axis=1, keepdims=True)
    squared = weights @ np.square(errors) / total
    centred = true - true.mean(axis=0)  # of any origin: this one keeps the digits
    variance = weights @ np.square(centred) / total - np.square(weights @ centred / total)
    smallest = 1e-12 * np.square(centred).max(axis=0)  # in the value's own unit; a constant has no variance
    explained = np.divide(squared, variance, out=np.full_like(squared, np.nan), where=variance > smallest)
    return {"r2": 1 - explained, "mae": weights @ np.abs(errors) / total, "rmse": np.sqrt(squared)}


def over_outputs(figures: Weights) -> Weights:
    """Mean over the outputs for which a figure, shape (B, K), is defined; shape (B,)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice")
        mean: Weights = np.nanmean(figures, axis=1)
    return mean


LABEL_SCORES: Mapping[str, str] = {  # the mean over the labels of what `label_scores` gives
    "roc_auc": "roc_auc",
    "average_precision": "average_precision",
    "macro_f1": "f1",
    "label_accuracy": "label_accuracy",
}
VALUE_SCORES: Mapping[str, str] = {"r2": "r2", "mae": "mae", "rmse": "rmse"}


def roc_area(positive: npt.NDArray[np.bool_], scores: Floats, weights: Weights) -> Weights:
    """Area under the ROC curve, shape (B,); NaN without an image of either kind.

    Mann-Whitney form of the area: the share of (positive, negative) pairs in the right order, ties counting half.
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    ties = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])  # where each run of equal scores starts
    above = np.add.reduceat(weights[:, order] * positive[order], ties, axis=1)
    below = np.add.reduceat(weights[:, order] * ~positive[order], ties, axis=1)
    lower = np.cumsum(below, axis=1) - below
    pairs = above.sum(axis=1) * below.sum(axis=1)
    ordered = (above * (lower + below / 2)).sum(axis=1)
    area: Weights = np.divide(ordered, pairs, out=np.full_like(ordered, np.nan), where=pairs > 0)
    return area


def _average_precision(positive: npt.NDArray[np.bool_], scores: Floats, weights: Weights) -> Weights:
    """Mean precision over the positive images, each at its own score as the threshold; NaN without any."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ties = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    hits = np.add.reduceat(weights[:, order] * positive[order], ties, axis=1)
    taken = np.cumsum(np.add.reduceat(weights[:, order], ties, axis=1), axis=1)
    found = np.cumsum(hits, axis=1)
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    return _ratio((hits * precision).sum(axis=1), found[:, -1])


def _ratio(above: Weights, below: Weights) -> Weights:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
