"""Two networks on the same images: the difference of their scores, and whether it is more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from hscc.evaluation.bootstrap import Draws, interval, standard_error


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
