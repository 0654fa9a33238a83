"""Which networks no other beats on both counts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def pareto_front(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Mark the points that no other dominates.

    Parameters
    ----------
    first, second : array_like of float, shape (N,)
        Two figures of each point; more is better in both.

    Returns
    -------
    ndarray of bool, shape (N,)
        True unless another point is at least as good in both and better in one.
    """
    points = np.stack([np.asarray(first, dtype=float), np.asarray(second, dtype=float)], axis=1)
    no_worse = np.all(points[None] >= points[:, None], axis=2)
    better = np.any(points[None] > points[:, None], axis=2)
    front: npt.NDArray[np.bool_] = ~np.any(no_worse & better, axis=1)
    return front
