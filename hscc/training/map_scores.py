"""Scores of segmentations from counts that are kept of each image.

Of an image its pixels are counted by true and predicted class, and by the log odds of each class, so that every score
can be computed for any weights of the images without the maps themselves. All scores but the area under the ROC curve
are means over the images; the area is that of all pixels together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

BINS = 512  # of the log odds
_MOST = 16.0  # log odds beyond it are in the outer bins

Counts = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MapCounts:
    """What is kept of the answers to N images with C classes; of the pixels that count alone.

    Attributes
    ----------
    confusion : ndarray of int64, shape (N, C, C)
        Pixels by true class and predicted class.
    odds : ndarray of int64, shape (N, C, 2, BINS)
        Pixels by class, whether they are not of it (0) or are (1), and bin of its log odds, ascending.
    """

    confusion: Counts
    odds: Counts

    @classmethod
    def join(cls, parts: list[MapCounts]) -> MapCounts:
        """Put the images of several together."""
        return cls(np.concatenate([part.confusion for part in parts]), np.concatenate([part.odds for part in parts]))


def count_maps(logits: torch.Tensor, truth: torch.Tensor) -> MapCounts:
    """Count the pixels of some images.

    Parameters
    ----------
    logits : Tensor, shape (N, C, *positions)
        Of the network.
    truth : Tensor of int64, shape (N, *positions)
        True class of each pixel; negative where it does not count.
    """
    classes = logits.shape[1]
    confusion, odds = [], []
    for found, true in zip(logits.detach().float().flatten(2), truth.flatten(1), strict=True):
        counted = true >= 0
        pixels, labels = found[:, counted], true[counted]
        cells = labels * classes + pixels.argmax(0)
        confusion.append(torch.bincount(cells, minlength=classes**2).reshape(classes, classes))
        odds.append(torch.stack([_histogram(pixels, labels, index) for index in range(classes)]))
    return MapCounts(torch.stack(confusion).numpy(), torch.stack(odds).numpy())


def _histogram(pixels: torch.Tensor, labels: torch.Tensor, index: int) -> torch.Tensor:
    """Pixels of one image by whether they are of a class and by the bin of its log odds, shape (2, BINS)."""
    others = torch.cat((pixels[:index], pixels[index + 1 :])).logsumexp(0)
    place = ((pixels[index] - others).clamp(-_MOST, _MOST) + _MOST) * (BINS / (2 * _MOST))
    cells = (labels == index) * BINS + place.long().clamp(0, BINS - 1)
    return torch.bincount(cells, minlength=2 * BINS).reshape(2, BINS)


MapScore = Callable[[MapCounts, Weights], Weights]
"""Of counts of N images and weights, shape (B, N): a figure for each row of the weights, shape (B,)."""


def dice(counts: MapCounts, weights: Weights) -> Weights:
    """Mean over the images of the Dice coefficient, the mean over the classes but the first, the background.

    A class that an image neither has nor is given counts as 1 (Dice, Ecology 26, 1945).
    """
    hits, predicted, present = _margins(counts.confusion)
    return _mean(_share(2 * hits, predicted + present, empty=1.0), weights)


def iou(counts: MapCounts, weights: Weights) -> Weights:
    """Mean over the images of intersection over union, taken over the classes as in `dice`."""
    hits, predicted, present = _margins(counts.confusion)
    return _mean(_share(hits, predicted + present - hits, empty=1.0), weights)


def sensitivity(counts: MapCounts, weights: Weights) -> Weights:
    """Mean over the images of the share of a class's pixels that are found, where there are any."""
    hits, _, present = _margins(counts.confusion)
    return _mean(_share(hits, present), weights)


def specificity(counts: MapCounts, weights: Weights) -> Weights:
    """Mean over the images of the share of other pixels that are not taken for a class, where there are any."""
    hits, predicted, present = _margins(counts.confusion)
    others = counts.confusion.sum(axis=(1, 2))[:, None] - present
    return _mean(_share(others - (predicted - hits), others), weights)


def pixel_roc_auc(counts: MapCounts, weights: Weights) -> Weights:
    """Area under the ROC curve of all pixels together, mean over the classes but the first; NaN where undefined.

    Pixels of one bin of `BINS` log odds are ties, which count half.
    """
    images, classes = counts.confusion.shape[:2]
    pooled = weights @ counts.odds[:, 1:].reshape(images, -1).astype(np.float64)
    below, above = np.moveaxis(pooled.reshape(len(weights), classes - 1, 2, BINS), 2, 0)
    lower = np.cumsum(below, axis=-1) - below
    pairs = above.sum(axis=-1) * below.sum(axis=-1)
    ordered = (above * (lower + below / 2)).sum(axis=-1)
    area: Weights = np.divide(ordered, pairs, out=np.full_like(ordered, np.nan), where=pairs > 0).mean(axis=1)
    return area


MAP_SCORES: Mapping[str, MapScore] = {
    "dice": dice,
    "iou": iou,
    "sensitivity": sensitivity,
    "specificity": specificity,
    "pixel_roc_auc": pixel_roc_auc,
}


def of_each_image(counts: MapCounts, name: str) -> Weights:
    """A score of each image alone, shape (N,)."""
    return MAP_SCORES[name](counts, np.eye(len(counts.confusion)))


def _margins(confusion: Counts) -> tuple[Weights, Weights, Weights]:
    """Pixels that are right, predicted and present of each class but the first, each of shape (N, C - 1)."""
    figures = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=1), confusion.sum(axis=2)
    hits, predicted, present = (figure[:, 1:].astype(np.float64) for figure in figures)
    return hits, predicted, present


def _share(part: Weights, whole: Weights, empty: float = float("nan")) -> Weights:
    found: Weights = np.divide(part, whole, out=np.full_like(part, empty), where=whole > 0)
    return found


def _mean(values: Weights, weights: Weights) -> Weights:
    """Mean over the classes, then over the images; what is undefined is left out. From (N, C - 1) and (B, N)."""
    known = np.isfinite(values)
    classes = known.sum(axis=1)
    each = np.where(known, values, 0.0).sum(axis=1) / np.maximum(classes, 1)
    defined = weights * (classes > 0)
    total = defined.sum(axis=1)
    mean: Weights = np.divide(defined @ each, total, out=np.full(len(weights), np.nan), where=total > 0)
    return mean
