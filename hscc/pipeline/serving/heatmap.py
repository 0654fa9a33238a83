"""Heat maps: how much each place of an image contributes to the predicted class.

Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2): a patch
is taken away, and the fall of the class's probability is the weight of that place. It is removed by blur (Fong and
Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV 2017): paint would put an
object where there was none. It needs the deployed file and ONNX Runtime, no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from hscc.files import replacing
from hscc.pipeline.insight.pictures import glow_over
from hscc.pipeline.serving.reading import Levels

Heat = npt.NDArray[np.float64]
Classify = Callable[[Sequence[Levels]], npt.NDArray[np.float64]]

_STEPS = 12  # places per side
_PATCH = 4  # side of a patch, in steps: wide enough to cover a lesion, overlapping its neighbours
_BATCH = 32  # images per call; bounds the memory
_SIDE = 224  # pixels; occlusion needs no more than networks see
_BLUR = 16  # pixels; standard deviation, wide enough to dissolve a lesion


def occlusion(classify: Classify, image: Levels, label: int) -> Heat:
    """Weight every place of an image.

    Parameters
    ----------
    classify : callable
        Takes images and gives probabilities, shape (N, C).
    image : ndarray of uint8, shape (H, W) or (H, W, 3)
        The image.
    label : int
        The class to explain.

    Returns
    -------
    ndarray of float64, shape (12, 12)
        Mean fall of the class's probability over the patches that cover a place; negative where covering it raises
        the probability.
    """
    small = np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    blurred = np.asarray(Image.fromarray(small).filter(ImageFilter.GaussianBlur(_BLUR)))
    whole = classify([small])[0, label]
    corners = [(row, column) for row in range(1 - _PATCH, _STEPS) for column in range(1 - _PATCH, _STEPS)]
    falls: list[float] = []
    for start in range(0, len(corners), _BATCH):
        covered = [_cover(small, blurred, *corner) for corner in corners[start : start + _BATCH]]
        falls += [float(whole - value) for value in classify(covered)[:, label]]
    total, count = np.zeros((_STEPS, _STEPS)), np.zeros((_STEPS, _STEPS))
    for (row, column), fall in zip(corners, falls, strict=True):
        place = slice(max(row, 0), row + _PATCH), slice(max(column, 0), column + _PATCH)
        total[place] += fall
        count[place] += 1
    heat: Heat = total / count
    return heat


def write_overlay(image: Levels, heat: Heat, path: Path) -> None:
    """Write the image as PNG, with the places that support the class highlighted.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W) or (H, W, 3)
        The image.
    heat : ndarray of float64
        From `occlusion`; the strongest place is brightest, places that speak against the class stay as they are.
    path : Path
        Target, replaced whole.
    """
    with replacing(path) as new:
        glow_over(image, heat).save(new, format="PNG")


def _cover(image: Levels, blurred: Levels, row: int, column: int) -> Levels:
    step = image.shape[0] / _STEPS
    top, left = round(max(row, 0) * step), round(max(column, 0) * step)
    bottom, right = round((row + _PATCH) * step), round((column + _PATCH) * step)
    covered = image.copy()
    covered[top:bottom, left:right] = blurred[top:bottom, left:right]
    return covered
