"""How far the outlines of two segmentations are apart."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, distance_transform_edt


def surface_distance(predicted: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], classes: int) -> float:
    """Average symmetric surface distance in pixels, mean over the classes but the first, the background.

    Heimann et al., IEEE Transactions on Medical Imaging 28, 2009: from each pixel of either outline to the nearest of
    the other, all together. A class that one of the two lacks is as far away as it can be, the diagonal; one that both
    lack is at 0.

    Parameters
    ----------
    predicted, truth : ndarray of int64, of one shape
        Class of each pixel or voxel; negative in `truth` where it does not count, which is background of both.
    classes : int
        Number of classes.
    """
    counted = truth >= 0
    found = [_distance((predicted == index) & counted, truth == index) for index in range(1, classes)]
    return float(np.mean(found))


def _distance(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    if not one.any() or not other.any():
        return math.hypot(*one.shape) if one.any() or other.any() else 0.0
    outlines = [mask & ~binary_erosion(mask) for mask in (one, other)]
    there, back = (
        distance_transform_edt(~nearest)[outline] for outline, nearest in (outlines, reversed(outlines))
    )  # fmt: skip
    return float((there.sum() + back.sum()) / (there.size + back.size))
