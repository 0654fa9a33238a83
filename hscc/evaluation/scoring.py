"""All that the test split says about one network: scores, their errors, and the comparison with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hscc.evaluation.bootstrap import Draws, interval, resampled_mean, resampled_scores, standard_error
from hscc.evaluation.metrics import Floats, Ints, kl_divergence, score
from hscc.evaluation.paired import Difference, mcnemar, paired_difference

KL = "kl_to_baseline"
AGREEMENT = "agreement"


@dataclass(frozen=True)
class Evidence:
    """Scores of one network on one test split.

    Attributes
    ----------
    scores : dict of str to float
        Of `hscc.evaluation.metrics.score`, ``kl_to_baseline`` in nats, and ``agreement``, the share of images on which
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
