"""Two networks on the same images: the difference of their scores, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from hscc.pipeline.statistics.scores import (
    Draws,
    Floats,
    Ints,
    interval,
    kl_divergence,
    resampled_mean,
    resampled_scores,
    score,
    standard_error,
)


@dataclass(frozen=True)
class Difference:
    """A paired difference, first minus second network.

    Attributes
    ----------
    value : float
        Difference of the scores on the test split.
    se : float
        Paired bootstrap standard error.
    low, high : float
        Ends of the paired 95 % percentile interval.
    """

    value: float
    se: float
    low: float
    high: float


def paired_difference(first: float, second: float, first_draws: Draws, second_draws: Draws) -> Difference:
    """Compare one score of two networks.

    Parameters
    ----------
    first, second : float
        The score of either network on the test split.
    first_draws, second_draws : ndarray of float64, shape (B,)
        The score in the same B resamples.

    Returns
    -------
    Difference
        First minus second.
    """
    draws = first_draws - second_draws
    return Difference(first - second, standard_error(draws), *interval(draws))


def mcnemar(first_correct: npt.NDArray[np.bool_], second_correct: npt.NDArray[np.bool_]) -> float:
    """Exact McNemar test that two networks err equally often on the same images.

    McNemar, Psychometrika 12 (1947); exact form as the binomial test of the images on which just one is right.

    Parameters
    ----------
    first_correct, second_correct : ndarray of bool, shape (N,)
        Whether either network has each image right.

    Returns
    -------
    float
        Two-sided p value; 1 when the networks are right and wrong on the same images.
    """
    only_first = int(np.sum(first_correct & ~second_correct))
    only_second = int(np.sum(second_correct & ~first_correct))
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values so that a claim of any of them is wrong with no more than the level's probability.

    Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979): the
    i-th smallest of m is multiplied by m - i + 1, and none is smaller than one before it. It holds however the tests
    depend on each other, as those on the same images do.

    Parameters
    ----------
    p_values : sequence of float
        In [0, 1].

    Returns
    -------
    list of float
        Adjusted values in the order given, at most 1.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


KL = "kl_to_baseline"
AGREEMENT = "agreement"


@dataclass(frozen=True)
class Evidence:
    """Scores of one network on one test split.

    Attributes
    ----------
    scores : dict of str to float
        Of `score`, ``kl_to_baseline`` in nats, and ``agreement``, the share of images on which
        the network says the same class as its baseline.
    draws : dict of str to ndarray of float64, shape (B,)
        The same in every resample.
    correct : ndarray of bool, shape (N,)
        Which images it has right.
    """

    scores: dict[str, float]
    draws: dict[str, Draws]
    correct: npt.NDArray[np.bool_]

    def with_error(self, name: str) -> dict[str, float]:
        """One score and its standard error, by the ends of their columns' names."""
        return {"": self.scores[name], "_se": standard_error(self.draws[name])}


def gather(labels: Ints, logits: Floats, dense_logits: Floats, weights: Draws, classes: Sequence[str]) -> Evidence:
    """Score a network and resample its scores.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    logits, dense_logits : ndarray of float, shape (N, C)
        Of the network and of its dense baseline, on the same images.
    weights : ndarray of float64, shape (B, N)
        The resamples.
    classes : sequence of str
        The C class names.

    Returns
    -------
    Evidence
        Scores and draws under the same keys.
    """
    divergence = kl_divergence(dense_logits, logits)
    agrees = (logits.argmax(axis=1) == dense_logits.argmax(axis=1)).astype(np.float64)
    beside = {KL: divergence, AGREEMENT: agrees}
    return Evidence(
        scores=score(labels, logits, classes) | {name: float(values.mean()) for name, values in beside.items()},
        draws=resampled_scores(labels, logits, weights, classes)
        | {name: resampled_mean(values, weights) for name, values in beside.items()},
        correct=logits.argmax(axis=1) == labels,
    )


def score_columns(evidence: Evidence) -> dict[str, float]:
    """Every score followed by its standard error and 95 % interval, as columns of the results table."""
    columns: dict[str, float] = {}
    for name, value in evidence.scores.items():
        draws = evidence.draws[name]
        low, high = interval(draws)
        columns |= {name: value, f"{name}_se": standard_error(draws), f"{name}_low": low, f"{name}_high": high}
    return columns


def difference(first: Evidence, second: Evidence, name: str) -> Difference:
    """Compare one score of two networks on the same images and resamples, first minus second."""
    return paired_difference(first.scores[name], second.scores[name], first.draws[name], second.draws[name])


def comparison_columns(first: Evidence, second: Evidence) -> dict[str, float]:
    """Accuracy of the first network minus the second's, as columns of the results table."""
    accuracy = difference(first, second, "accuracy")
    return {**difference_columns("accuracy", accuracy), "mcnemar_p": mcnemar(first.correct, second.correct)}


def difference_columns(name: str, value: Difference) -> dict[str, float]:
    """Name the four figures of a difference."""
    return {
        f"{name}_difference": value.value,
        f"{name}_difference_se": value.se,
        f"{name}_difference_low": value.low,
        f"{name}_difference_high": value.high,
    }
