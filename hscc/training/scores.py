"""Scores of a classifier on a split, as training and fine-tuning report them: no errors, no resamples.

`hscc.pipeline.statistics.metrics` has the same scores with errors, for the test split. These import nothing of the
statistics, so that an edit there does not make a training stale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

Score = Callable[[torch.Tensor, torch.Tensor], float]
"""Of logits, shape (N, C), and labels, shape (N,): a fraction, of which more is better."""


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images whose most probable class is right."""
    return float((logits.argmax(1) == labels).sum()) / len(labels)


def balanced_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean recall of the classes that have images."""
    right = logits.argmax(1) == labels
    return float(torch.stack([right[labels == index].double().mean() for index in labels.unique()]).mean())


def macro_f1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean F1 of the classes; 0 for a class that is neither there nor predicted."""
    predicted = logits.argmax(1)
    scores = []
    for index in range(logits.shape[1]):
        both = int(((predicted == index) & (labels == index)).sum())
        either = int((predicted == index).sum() + (labels == index).sum())
        scores.append(2 * both / either if either else 0.0)
    return sum(scores) / len(scores)


def roc_auc(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean area under the one-against-the-rest ROC curve, over the classes that have images in and outside of them."""
    probabilities = logits.double().softmax(1)
    areas = [
        _area(probabilities[labels == index, index], probabilities[labels != index, index])
        for index in range(logits.shape[1])
    ]
    defined = [area for area in areas if area is not None]
    return sum(defined) / len(defined) if defined else 0.0


def _area(positive: torch.Tensor, negative: torch.Tensor) -> float | None:
    """Share of the pairs in the right order, ties counting half; None where there is no pair."""
    if not len(positive) or not len(negative):
        return None
    ordered = negative.sort().values
    below = torch.searchsorted(ordered, positive.contiguous(), right=False)
    not_above = torch.searchsorted(ordered, positive.contiguous(), right=True)
    return float((below + not_above).double().mean()) / (2 * len(negative))


SCORES: Mapping[str, Score] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "roc_auc": roc_auc,
}
