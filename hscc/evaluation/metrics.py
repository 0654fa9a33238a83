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
