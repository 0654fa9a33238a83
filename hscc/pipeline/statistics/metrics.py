"""Scores of a network's predictions, each computed in every resample of the test images at once.

A metric takes labels, probabilities and weights, and gives one figure for each row of the weights. With weights of one
that figure is the score itself, see `hscc.pipeline.statistics.bootstrap`. To add a metric, write such a function and
enter it in `METRICS`, or name it in an entry point of the group ``hscc.metrics``; ``evaluate.metrics`` in
``params.yaml`` lists those beyond `SCORES`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from hscc.pipeline.statistics.bootstrap import Draws, Ints, resampled_mean
from hscc.plugins import Registry
from hscc.training.target_scores import roc_area

Floats = npt.NDArray[np.floating]

Metric = Callable[[Ints, Floats, Draws], Draws]
"""Of labels, shape (N,), probabilities, shape (N, C), and weights, shape (B, N): a figure per resample, shape (B,)."""

ECE_BINS = 15  # as in Guo et al. 2017


def confusion(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    """Confusion matrix of every resample, shape (B, C, C): true class by predicted class."""
    classes = probabilities.shape[1]
    cell = labels * classes + probabilities.argmax(axis=1)
    one_hot = (cell[:, None] == np.arange(classes * classes)).astype(np.float64)
    counts: Draws = (weights @ one_hot).reshape(-1, classes, classes)
    return counts


def class_scores(labels: Ints, probabilities: Floats, weights: Draws) -> dict[str, Draws]:
    """Precision, recall and F1 of every class in every resample, each of shape (B, C); 0 where undefined."""
    counts = confusion(labels, probabilities, weights)
    hits, predicted, images = _margins(counts)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, images),
        "f1": _ratio(2 * hits, predicted + images),
    }


def accuracy(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    """Share of images whose most probable class is right."""
    return resampled_mean(probabilities.argmax(axis=1) == labels, weights)


def balanced_accuracy(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    """Mean recall of the classes that have images."""
    hits, _, images = _margins(confusion(labels, probabilities, weights))
    mean: Draws = _ratio(hits, images).sum(axis=1) / (images > 0).sum(axis=1)
    return mean


def macro_f1(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    """Mean F1 of the classes."""
    mean: Draws = class_scores(labels, probabilities, weights)["f1"].mean(axis=1)
    return mean


def roc_auc(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    """Mean over the classes of the area under the one-against-the-rest ROC curve; NaN where a class has no image."""
    areas = [roc_area(labels == index, probabilities[:, index], weights) for index in range(probabilities.shape[1])]
    mean: Draws = np.mean(areas, axis=0)
    return mean


def expected_calibration_error(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    """Mean gap between confidence and accuracy over `ECE_BINS` equal-width bins of the top probability.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    in_bin = confidence_bins(probabilities)[:, None] == np.arange(ECE_BINS)
    gaps = weights @ ((probabilities.max(axis=1) - (probabilities.argmax(axis=1) == labels))[:, None] * in_bin)
    error: Draws = np.abs(gaps).sum(axis=1) / weights.sum(axis=1)
    return error


def brier_score(labels: Ints, probabilities: Floats, weights: Draws) -> Draws:
    """Mean squared distance of the probabilities from the truth, summed over the classes, in [0, 2].

    Brier, Monthly Weather Review 78 (1950), in its original form.
    """
    truth = np.eye(probabilities.shape[1])[labels]
    return resampled_mean(np.square(probabilities - truth).sum(axis=1), weights)


SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "ece", "brier")  # of every network
_OWN: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "roc_auc": roc_auc,
    "ece": expected_calibration_error,
    "brier": brier_score,
}
METRICS = Registry("hscc.metrics", _OWN)


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


def _margins(counts: Draws) -> tuple[Draws, Draws, Draws]:
    """Images that are right, predicted and present of each class, each of shape (B, C)."""
    return np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=1), counts.sum(axis=2)


def _ratio(above: Draws, below: Draws) -> Draws:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
