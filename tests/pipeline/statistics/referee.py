"""Scores of one network as scikit-learn and scipy compute them, with a weight for each image."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from hscc.pipeline.statistics.metrics import ECE_BINS


def scores(labels: np.ndarray, logits: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Score logits, shape (N, C); NaN where a class without images leaves the area undefined."""
    classes, predicted = np.arange(logits.shape[1]), logits.argmax(axis=1)
    probabilities = softmax(logits, axis=1)
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=classes, sample_weight=weight, zero_division=0.0
    )
    present = np.array([weight[labels == k].sum() for k in classes])
    areas = [
        roc_auc_score(labels == k, probabilities[:, k], sample_weight=weight)
        for k in classes
        if 0 < present[k] < weight.sum()
    ]
    return {
        "accuracy": accuracy_score(labels, predicted, sample_weight=weight),
        "balanced_accuracy": recall[present > 0].mean(),
        "macro_f1": f1.mean(),
        "roc_auc": float(np.mean(areas)) if len(areas) == len(classes) else float("nan"),
        "ece": _calibration_error(labels, probabilities, weight),
        "brier": brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False, sample_weight=weight),
        **{f"precision_{k}": precision[k] for k in classes},
        **{f"recall_{k}": recall[k] for k in classes},
        **{f"f1_{k}": f1[k] for k in classes},
    }


def _calibration_error(labels: np.ndarray, probabilities: np.ndarray, weight: np.ndarray) -> float:
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for low in np.arange(ECE_BINS) / ECE_BINS:
        inside = (confidence > low) & (confidence <= low + 1 / ECE_BINS)
        if weight[inside].sum() > 0:
            gap = np.average(confidence[inside], weights=weight[inside]) - np.average(
                correct[inside], weights=weight[inside]
            )
            error += abs(gap) * weight[inside].sum() / weight.sum()
    return float(error)
