"""Refuse pictures that the network can say nothing about.

A classifier of four classes puts everything into one of the four. What is plainly no brain MRI slice is refused before:
by colour, by size, and by the dark air around a head. The limits were set on the data set's 3,264 images; they are a
guard against mistakes, not a detector: a grey photograph with a dark border passes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from hscc.errors import DataError
from hscc.serving.reading import Grey, Picture

SHORTEST_SIDE, LONGEST_SIDE = 64, 4096  # pixels
_MOST_OBLONG = 2.0
_MOST_COLOUR = 8.0  # of 255
_LEAST_CONTRAST = 15.0  # standard deviation of the grey levels
_DARK = 50  # grey levels
_LEAST_DARK_BORDER = 0.3
_BRIGHTEST_CORNER = 60.0  # mean grey level of the second darkest corner
_SIDE, _BAND, _CORNER = 128, 6, 16  # pixels, of the picture made small


def refuse_implausible(picture: Picture) -> None:
    """Refuse what is plainly not a brain MRI slice.

    Parameters
    ----------
    picture : Picture
        What was read.

    Raises
    ------
    DataError
        In one sentence, with what is wrong.
    """
    fault = _fault(picture)
    if fault:
        raise DataError(f"{picture.name} does not look like a brain MRI slice: {fault}; bring one.")


def _fault(picture: Picture) -> str | None:
    height, width = picture.grey.shape
    if min(height, width) < SHORTEST_SIDE or max(height, width) > LONGEST_SIDE:
        return f"it has {width} x {height} pixels, sides of {SHORTEST_SIDE} to {LONGEST_SIDE} are expected"
    if max(height, width) > _MOST_OBLONG * min(height, width):
        return f"it is {width} x {height} pixels, longer than {_MOST_OBLONG:g} times its width"
    if picture.colour > _MOST_COLOUR:
        return f"it is in colour (its channels lie {picture.colour:.0f} levels apart)"
    return _tonal_fault(picture.grey)


def _tonal_fault(grey: Grey) -> str | None:
    small = np.asarray(Image.fromarray(grey).resize((_SIDE, _SIDE)), dtype=np.float64)
    if small.std() < _LEAST_CONTRAST:
        return f"it is nearly uniform (its grey levels deviate by {small.std():.0f})"
    inner = slice(_BAND, _SIDE - _BAND)
    border = np.ones_like(small, dtype=bool)
    border[inner, inner] = False
    dark = float((small[border] < _DARK).mean())
    if dark < _LEAST_DARK_BORDER:
        return f"there is no dark background around a head (only {dark:.0%} of its border is dark)"
    corners = sorted(
        float(small[rows, columns].mean())
        for rows in (slice(_CORNER), slice(-_CORNER, None))
        for columns in (slice(_CORNER), slice(-_CORNER, None))
    )
    if corners[1] > _BRIGHTEST_CORNER:
        return f"its corners are bright (grey level {corners[1]:.0f})"
    return None
