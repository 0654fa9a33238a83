"""Refuse pictures that are plainly not what a network was made for: by its data spec, never by the network."""

from __future__ import annotations

import numpy as np
from PIL import Image

from hscc.errors import DataError
from hscc.pipeline.data_spec import Plausible
from hscc.pipeline.serving.reading import Levels, Picture

_DARK = 50  # grey levels
_SIDE, _BAND, _CORNER = 128, 6, 16  # pixels, of the picture made small


def refuse_implausible(picture: Picture, limits: Plausible | None, subject: str) -> None:
    """Refuse what is plainly not one of the images that a network was made for.

    Parameters
    ----------
    picture : Picture
        To be classified.
    limits : Plausible or None
        What it must be like; None to take any.
    subject : str
        What one of the images is, such as ``brain MRI slice``.

    Raises
    ------
    DataError
        In one sentence, with what is wrong.
    """
    if limits is None:
        return
    fault = _fault(picture, limits)
    if fault:
        raise DataError(f"{picture.name} does not look like a {subject}: {fault}; use one.")


def _fault(picture: Picture, limits: Plausible) -> str | None:
    if picture.modality and limits.modalities and picture.modality not in limits.modalities:
        return f"it is of modality {picture.modality}, the network takes {', '.join(limits.modalities)}"
    if picture.body_part and limits.body_parts and picture.body_part not in limits.body_parts:
        return f"it shows the body part {picture.body_part}, the network takes {', '.join(limits.body_parts)}"
    shortest, longest = limits.sides
    if picture.is_volume:
        size = picture.pixels.shape
        if min(size) < shortest or max(size) > longest:
            return f"it has {' x '.join(map(str, size))} voxels, sides of {shortest} to {longest} are expected"
        return None
    height, width = picture.pixels.shape[:2]
    if min(height, width) < shortest or max(height, width) > longest:
        return f"it has {width} x {height} pixels, sides of {shortest} to {longest} are expected"
    if limits.max_oblong is not None and max(height, width) > limits.max_oblong * min(height, width):
        return f"it is {width} x {height} pixels, longer than {limits.max_oblong:g} times its width"
    if limits.max_colour is not None and picture.colour > limits.max_colour:
        return f"it is in colour (its channels lie {picture.colour:.0f} levels apart)"
    return _tonal_fault(picture.grey, limits)


def _tonal_fault(grey: Levels, limits: Plausible) -> str | None:
    small = np.asarray(Image.fromarray(grey).resize((_SIDE, _SIDE)), dtype=np.float64)
    if limits.min_contrast is not None and small.std() < limits.min_contrast:
        return f"it is nearly uniform (its grey levels deviate by {small.std():.0f})"
    inner = slice(_BAND, _SIDE - _BAND)
    border = np.ones_like(small, dtype=bool)
    border[inner, inner] = False
    dark = float((small[border] < _DARK).mean())
    if limits.min_dark_border is not None and dark < limits.min_dark_border:
        return f"there is no dark background (only {dark:.0%} of its border is dark)"
    corners = sorted(
        float(small[rows, columns].mean())
        for rows in (slice(_CORNER), slice(-_CORNER, None))
        for columns in (slice(_CORNER), slice(-_CORNER, None))
    )
    if limits.max_corner is not None and corners[1] > limits.max_corner:
        return f"its corners are bright (grey level {corners[1]:.0f})"
    return None
