"""Bootstrap over groups of near-copies: standard errors, intervals and paired differences of any figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hscc.pipeline.statistics.schema import Estimate

Ints = npt.NDArray[np.int64]
Draws = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Resampled:
    """A figure on the images and in every resample of them.

    Figures of the same resamples are paired: their difference is that of their values and of each resample.

    Attributes
    ----------
    value : float
        On the images themselves: with weights of one.
    draws : ndarray of float64, shape (B,)
        In every resample; NaN where it is undefined.
    """

    value: float
    draws: Draws

    @classmethod
    def of(cls, figures: Draws) -> Resampled:
        """Take a figure, shape (1 + B,), that was computed with the rows of `bootstrap_weights`."""
        return cls(float(figures[0]), figures[1:])

    @classmethod
    def mean(cls, values: npt.ArrayLike, weights: Draws) -> Resampled:
        """Mean of one figure per image, shape (N,), with `bootstrap_weights`."""
        return cls.of(resampled_mean(values, weights))

    def __sub__(self, other: Resampled) -> Resampled:
        """Paired difference."""
        return Resampled(self.value - other.value, self.draws - other.draws)

    def estimate(self) -> Estimate:
        """Give the value with its standard error and 95 % interval; what is undefined is None."""
        figures = (self.value, standard_error(self.draws), *interval(self.draws))
        value, se, low, high = (figure if np.isfinite(figure) else None for figure in figures)
        return Estimate(value=value, se=se, low=low, high=high)


def bootstrap_weights(groups: Ints, resamples: int, seed: int) -> Draws:
    """Weights of one, for the figure itself, and below them those of the resamples.

    Parameters
    ----------
    groups, resamples, seed
        Of `resample`.

    Returns
    -------
    ndarray of float64, shape (1 + B, N)
        For `Resampled`.
    """
    drawn = resample(groups, resamples, seed)
    return np.concatenate([np.ones_like(drawn[:1]), drawn])


def resample(groups: Ints, resamples: int, seed: int) -> Draws:
    """Draw whole groups with replacement.

    Parameters
    ----------
    groups : ndarray of int64, shape (N,)
        Group of each image; images of one group are drawn together.
    resamples : int
        Number B of resamples.
    seed : int
        Seed of the draws.

    Returns
    -------
    ndarray of float64, shape (B, N)
        How often each image is in each resample; a whole number.
    """
    _, member_of = np.unique(groups, return_inverse=True)
    count = int(member_of.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1.0 / count), size=resamples)
    return drawn[:, member_of].astype(np.float64)


def resampled_mean(values: npt.ArrayLike, weights: Draws) -> Draws:
    """Mean of one figure per image, shape (N,), in every resample, shape (B,)."""
    means: Draws = weights @ np.asarray(values, dtype=np.float64) / weights.sum(axis=1)
    return means


def standard_error(draws: Draws) -> float:
    """Take the standard deviation over the resamples in which the figure is defined; NaN when fewer than two are."""
    defined = draws[np.isfinite(draws)]
    return float(np.std(defined, ddof=1)) if defined.size > 1 else float("nan")


def interval(draws: Draws, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the fraction `level` of the resamples in which the figure is defined; NaN if none is."""
    defined = draws[np.isfinite(draws)]
    if not defined.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
