"""Two networks on the same test images: the difference of their scores, and whether it is more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from scipy.stats import binomtest

from hscc.pipeline.statistics.bootstrap import Draws, Ints, Resampled
from hscc.pipeline.statistics.metrics import METRICS, SCORES, Floats, class_scores, kl_divergence
from hscc.pipeline.statistics.schema import Comparison

# Scores that are not compared between networks.
UNJUDGED = ("ece", "brier", "mae", "rmse", "agreement", "surface_distance")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Scores of one network on one test split.

    Attributes
    ----------
    scores : dict of str to Resampled
        Of `METRICS`; ``kl`` from its dense network in nats; ``agreement``, the share of images to which both give the
        same class.
    by_class : dict of str to (dict of str to Resampled)
        Precision, recall and F1, by score and then by class name; of labels and values what
        `hscc.training.target_scores` has of each.
    correct : ndarray of bool, shape (N,), or None
        Which images it has right; None where an image is not just right or wrong.
    images : int
        Number N of test images.
    primary : str
        Name of the primary score, one of `scores`.
    groups : ndarray of int64, shape (N,), or None
        Of images that belong together, where they are known.
    """

    scores: Mapping[str, Resampled]
    by_class: Mapping[str, Mapping[str, Resampled]]
    correct: npt.NDArray[np.bool_] | None
    images: int
    primary: str = "accuracy"
    groups: Ints | None = None


def gather(
    labels: Ints,
    logits: Floats,
    dense_logits: Floats,
    weights: Draws,
    classes: Sequence[str],
    metrics: Sequence[str] = SCORES,
    primary: str = "accuracy",
    groups: Ints | None = None,
) -> Evidence:
    """Score a classifier and resample its scores.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    logits, dense_logits : ndarray of float, shape (N, C)
        Of the network and of its dense baseline, on the same images.
    weights : ndarray of float64, shape (1 + B, N)
        Of `hscc.pipeline.statistics.bootstrap.bootstrap_weights`.
    classes : sequence of str
        The C class names.
    metrics : sequence of str
        Names in `METRICS`.
    primary : str
        The one of them by which networks are judged.
    groups : ndarray of int64, shape (N,), optional
        Of images that belong together; each image alone where absent.
    """
    probabilities = softmax(logits.astype(np.float64), axis=1)
    predicted = logits.argmax(axis=1)
    scores = {name: Resampled.of(METRICS[name](labels, probabilities, weights)) for name in metrics}
    scores["kl"] = Resampled.mean(kl_divergence(dense_logits, logits), weights)
    scores["agreement"] = Resampled.mean(predicted == dense_logits.argmax(axis=1), weights)
    by_class = {
        score: {name: Resampled.of(found[:, index]) for index, name in enumerate(classes)}
        for score, found in class_scores(labels, probabilities, weights).items()
    }
    return Evidence(scores, by_class, predicted == labels, len(labels), primary, groups)


def compare(first: Evidence, second: Evidence, against: str) -> Comparison:
    """Compare two networks on the same images and resamples, first minus second.

    Parameters
    ----------
    first, second : Evidence
        Of the same weights.
    against : str
        Method of the second.
    """
    paired = {name: (found - second.scores[name]).estimate() for name, found in first.scores.items()}
    kl = paired.pop("kl")
    f1, other = (each.by_class.get("f1", {}) for each in (first, second))
    p_value = None
    if first.primary == "accuracy" and first.correct is not None and second.correct is not None:
        p_value = mcnemar(first.correct, second.correct, first.groups)
    return Comparison(
        against=against,
        score=first.primary,
        scores={name: found for name, found in paired.items() if name not in UNJUDGED},
        kl=kl,
        mcnemar_p=p_value,
        f1={name: (f1[name] - other[name]).estimate() for name in f1},
    )


def mcnemar(
    first_correct: npt.NDArray[np.bool_], second_correct: npt.NDArray[np.bool_], groups: Ints | None = None
) -> float:
    """Exact McNemar test that two networks err equally often on the same images.

    McNemar, Psychometrika 12 (1947); exact form as the binomial test of the images on which just one is right. Images
    of one group, such as a patient's, tend to err together: each group has one vote, for the network that has more of
    them right (a sign test over groups).

    Parameters
    ----------
    first_correct, second_correct : ndarray of bool, shape (N,)
        Whether either network has each image right.
    groups : ndarray of int64, shape (N,), optional
        Of the images; each alone where absent.

    Returns
    -------
    float
        Two-sided p value; 1 when the networks are right and wrong on the same images.
    """
    more = first_correct.astype(np.int64) - second_correct.astype(np.int64)
    if groups is not None:
        more = np.bincount(np.unique(groups, return_inverse=True)[1], more)
    only_first, only_second = int(np.sum(more > 0)), int(np.sum(more < 0))
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def with_holm(family: Sequence[Comparison]) -> list[Comparison]:
    """Enter Holm's correction over the comparisons of one family; as given where they have no p values."""
    p_values = [each.mcnemar_p for each in family if each.mcnemar_p is not None]
    if len(p_values) < len(family):
        return list(family)
    adjusted = holm(p_values)
    return [each.model_copy(update={"mcnemar_p_holm": value}) for each, value in zip(family, adjusted, strict=True)]


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
