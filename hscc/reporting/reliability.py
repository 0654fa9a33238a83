"""Confidence against correctness, bin by bin, from the kept logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax
from scipy.stats import binomtest

from hscc.evaluation.metrics import ECE_BINS, confidence_bins


@dataclass(frozen=True)
class Bin:
    """The images whose top probability falls into one bin.

    Attributes
    ----------
    centre : float
        Middle of the bin, in (0, 1).
    images : int
        How many.
    confidence, accuracy : float
        Their mean top probability, and the share that is predicted rightly; NaN without images.
    low, high : float
        Wilson's 95 % interval of the accuracy.
    """

    centre: float
    images: int
    confidence: float
    accuracy: float
    low: float
    high: float


def reliability(labels: npt.NDArray[np.int64], logits: npt.NDArray[np.floating], bins: int = ECE_BINS) -> list[Bin]:
    """Sort images into bins of their top probability, the bins of the expected calibration error.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    logits : ndarray of float, shape (N, C)
        What the network put out.
    bins : int
        Number of bins of (0, 1].

    Returns
    -------
    list of Bin
        One a bin, ascending, empty ones among them.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    index, confidence = confidence_bins(probabilities, bins), probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    return [_bin((place + 0.5) / bins, confidence[index == place], correct[index == place]) for place in range(bins)]


def _bin(centre: float, confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_]) -> Bin:
    images = len(correct)
    if not images:
        return Bin(centre, 0, *[float("nan")] * 4)
    right = int(correct.sum())
    interval = binomtest(right, images).proportion_ci(method="wilson")
    return Bin(centre, images, float(confidence.mean()), right / images, float(interval.low), float(interval.high))


def reliability_frame(networks: Mapping[str, Sequence[Bin]]) -> pd.DataFrame:
    """Tabulate the diagram for DVC's plots.

    Parameters
    ----------
    networks : mapping of str to sequence of Bin
        By name, all with the same bins.

    Returns
    -------
    pandas.DataFrame
        A row a bin: ``confidence`` (its middle), and for each network ``<name>`` (accuracy) and ``<name>_images``; bins
        without an image of any network are left out.
    """
    columns: dict[str, list[float]] = {
        "confidence": [found.centre for found in next(iter(networks.values()))],
        **{name: [found.accuracy for found in bins] for name, bins in networks.items()},
        **{f"{name}_images": [found.images for found in bins] for name, bins in networks.items()},
    }
    frame = pd.DataFrame(columns)
    return frame[frame[[f"{name}_images" for name in networks]].sum(axis=1) > 0]
