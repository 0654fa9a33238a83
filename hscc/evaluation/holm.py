"""Many tests at once: Holm's step-down correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
