"""Scores of one network on one test split, as scikit-learn computes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, brier_score_loss, precision_recall_fscore_support, roc_auc_score

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

ECE_BINS = 15  # as in Guo et al. 2017


def score(labels: Ints, logits: Floats, classes: Sequence[str]) -> dict[str, float]:
    """Score a network's logits.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    logits : ndarray of float, shape (N, C)
        What the network put out.
    classes : sequence of str
        The C class names, in the order of the logits.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``balanced_accuracy`` (mean recall of the classes that have images), ``macro_f1``, ``roc_auc``
        (macro, one class against the rest; NaN when a class has no image), ``ece``, and ``precision_<class>``,
        ``recall_<class>``, ``f1_<class>`` (0 where undefined), all in [0, 1]; ``brier``, the multi-class Brier score in
        [0, 2], 0 for a network that is sure and right.
    """
    predicted = logits.argmax(axis=1)
    precision, recall, f1, images = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(classes)), zero_division=0.0
    )
    probabilities = softmax(logits.astype(np.float64), axis=1)
    scores = {
        "accuracy": float(accuracy_score(labels, predicted)),
        "balanced_accuracy": float(np.mean(recall[images > 0])),  # as balanced_accuracy_score, which warns of the rest
        "macro_f1": float(np.mean(f1)),
        "roc_auc": macro_roc_auc(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
        "brier": brier_score(labels, probabilities),
    }
    for index, name in enumerate(classes):
        scores[f"precision_{name}"] = float(precision[index])
        scores[f"recall_{name}"] = float(recall[index])
        scores[f"f1_{name}"] = float(f1[index])
    return scores


def macro_roc_auc(labels: Ints, probabilities: Floats) -> float:
    """Mean over the classes of the area under the one-against-the-rest ROC curve.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    probabilities : ndarray of float, shape (N, C)
        Rows sum to 1.

    Returns
    -------
    float
        In [0, 1]; NaN when a class has no image or all of them.
    """
    areas = []
    for index in range(probabilities.shape[1]):
        positive = labels == index
        if positive.all() or not positive.any():
            return float("nan")
        areas.append(roc_auc_score(positive, probabilities[:, index]))
    return float(np.mean(areas))


def brier_score(labels: Ints, probabilities: Floats) -> float:
    """Mean squared distance of the probabilities from the truth, summed over the classes.

    Brier, Monthly Weather Review 78 (1950), in its original form, which runs from 0 to 2.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    probabilities : ndarray of float, shape (N, C)
        Rows sum to 1.

    Returns
    -------
    float
        In [0, 2].
    """
    classes = np.arange(probabilities.shape[1])
    return float(brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False))


def expected_calibration_error(labels: Ints, probabilities: Floats, bins: int = ECE_BINS) -> float:
    """Mean gap between confidence and accuracy over equal-width bins of the top probability.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    probabilities : ndarray of float, shape (N, C)
        Rows sum to 1.
    bins : int
        Number of bins of (0, 1].

    Returns
    -------
    float
        In [0, 1]; 0 is perfectly calibrated.
    """
    gaps = confidence_gaps(labels, probabilities)
    index = confidence_bins(probabilities, bins)
    return float(np.abs(np.bincount(index, weights=gaps, minlength=bins)).sum() / len(labels))


def confidence_gaps(labels: Ints, probabilities: Floats) -> Floats:
    """Top probability minus correctness of every image, shape (N,)."""
    correct = probabilities.argmax(axis=1) == labels
    gaps: Floats = probabilities.max(axis=1) - correct
    return gaps


def confidence_bins(probabilities: Floats, bins: int = ECE_BINS) -> Ints:
    """Index of the bin (open below, closed above) that each image's top probability falls in, shape (N,)."""
    above = np.ceil(probabilities.max(axis=1) * bins).astype(np.int64)
    index: Ints = np.clip(above - 1, 0, bins - 1)
    return index


def kl_divergence(reference: Floats, logits: Floats) -> Floats:
    """Kullback-Leibler divergence of each image's prediction from the reference network's, in nats.

    Parameters
    ----------
    reference : ndarray of float, shape (N, C)
        Logits of the network that is taken as the truth.
    logits : ndarray of float, shape (N, C)
        Logits of the network under test.

    Returns
    -------
    ndarray of float64, shape (N,)
        ``sum_c p_c (log p_c - log q_c)`` with p of the reference; never negative, 0 where both agree.
    """
    log_p = log_softmax(reference.astype(np.float64), axis=1)
    log_q = log_softmax(logits.astype(np.float64), axis=1)
    divergence: Floats = np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=1), 0.0)
    return divergence


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
    """Every score of `hscc.pipeline.statistics.scores.score` in every resample.

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
