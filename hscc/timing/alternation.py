"""Time two networks side by side: the clock of a shared machine drifts, the ratio of neighbours does not.

The sessions' threads must not spin after a call (`hscc.timing.sessions.open_session` sees to it): by default
ONNX Runtime's idle threads keep polling, which made AlexNet in alternation with a second session 1.7 times slower on
two cores than alone, and the spread nine times wider.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WARM_UP = 3  # untimed calls of each network first: allocation, caches, clock rate
LEAST = 5  # pairs without which a median says nothing
_RESAMPLES = 1000

Call = Callable[[], object]
Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Median of repeated measurements, their interquartile range, and the bootstrap standard error of the median."""

    median: float
    iqr: float
    se: float


@dataclass(frozen=True)
class PairTiming:
    """How long two networks take on the same batch.

    Attributes
    ----------
    pairs : int
        Timed calls of each.
    dense_ms, other_ms : Spread
        Milliseconds a call.
    speedup : Spread
        Dense time over the other's time, of the pairs measured one after the other.
    """

    pairs: int
    dense_ms: Spread
    other_ms: Spread
    speedup: Spread


def time_pair(dense: Call, other: Call, repeats: int, seconds: float = math.inf) -> PairTiming:
    """Time two calls in alternation.

    Parameters
    ----------
    dense, other : callable
        Run either network once on the same batch.
    repeats : int
        Timed calls of each, at most.
    seconds : float
        After so long no further pair begins, though not before `LEAST` of them.

    Returns
    -------
    PairTiming
        Medians and spreads.
    """
    dense_ms, other_ms = alternate(dense, other, repeats, seconds)
    return PairTiming(len(dense_ms), spread(dense_ms), spread(other_ms), spread(dense_ms / other_ms))


def alternate(
    first: Call,
    second: Call,
    repeats: int,
    seconds: float = math.inf,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Times, Times]:
    """Call two functions in turn and time each call.

    Which of them leads a pair changes from pair to pair, so that neither has a place of its own.

    Parameters
    ----------
    first, second : callable
        What is timed.
    repeats : int
        Timed calls of each, at most.
    seconds : float
        After so long no further pair begins, though not before `LEAST` of them; the warm-up takes at most one more
        pair than a quarter of it.
    clock : callable
        Nanoseconds since some moment.

    Returns
    -------
    tuple of two ndarrays of float64, shape (P,)
        Milliseconds of the first's and of the second's calls; entry i of both belong to one pair.
    """
    begin = clock()
    for _ in range(WARM_UP):
        first()
        second()
        if clock() - begin > seconds * 1e9 / 4:
            break
    times = np.empty((2, repeats))
    begin = clock()
    for repeat in range(repeats):
        if repeat >= LEAST and clock() - begin > seconds * 1e9:
            return times[0, :repeat], times[1, :repeat]
        pair = ((0, first), (1, second)) if repeat % 2 == 0 else ((1, second), (0, first))
        for row, call in pair:
            start = clock()
            call()
            times[row, repeat] = (clock() - start) / 1e6
    return times[0], times[1]


def spread(values: Times) -> Spread:
    """Summarise measurements by median, interquartile range, and bootstrap standard error of the median."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    drawn = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    error = np.median(values[drawn], axis=1).std(ddof=1)
    return Spread(float(middle), float(high - low), float(error))
