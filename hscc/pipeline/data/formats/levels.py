"""From values as stored to levels of 0 to 255, at the size that a network takes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from hscc.errors import DataError
from hscc.pipeline.data.formats.base import Image, Values

Levels = npt.NDArray[np.uint8]
Window = tuple[float, float]

_CONTRAST = (0.5, 99.5)  # percentiles shown as black and white where nothing names a window
_MODES = {1: "L", 3: "RGB"}


def to_levels(image: Image, window: Window | None = None) -> Levels:
    """Scale values to levels.

    Parameters
    ----------
    image : Image
        With finite values.
    window : (float, float), optional
        Values that become black and white; those outside are cut off. uint8 stay as they are; without a window other
        values are scaled by the file's own window or, where it has none, from their percentile 0.5 to 99.5.

    Returns
    -------
    ndarray of uint8, shape of ``image.values``
    """
    if image.values.dtype == np.uint8:
        levels = image.values
    elif window is not None:
        levels = stretch(image.values, *window)
    elif image.shown is not None:
        levels = stretch(image.shown, float(image.shown.min()), float(image.shown.max()))
    else:
        low, high = np.percentile(image.values, _CONTRAST)
        levels = stretch(image.values, float(low), float(high))
    return np.subtract(255, levels) if image.inverted else levels


def stretch(values: Values, low: float, high: float) -> Levels:
    """Map values from low..high to levels 0..255, cut off outside."""
    span = max(high - low, 1e-12)
    exact: Values = values.astype(
        np.float64 if values.ndim < 3 else np.float32
    )  # a volume in float64 takes much memory
    levels: Levels = np.clip((exact - low) / span * 255.0, 0.0, 255.0).round().astype(np.uint8)
    return levels


def decode(image: Image, sides: tuple[int, ...], channels: int, window: Window | None, name: str) -> Levels:
    """Scale and resize an image as a network takes it.

    Parameters
    ----------
    image : Image
        As read.
    sides : tuple of int
        Height and width, or depth, height and width.
    channels : {1, 3}
        Grey, or red, green and blue.
    window : (float, float) or None
        See `to_levels`.
    name : str
        Of the image, in messages.

    Returns
    -------
    ndarray of uint8, shape (H, W), (H, W, 3) or (D, H, W)

    Raises
    ------
    DataError
        If it has another number of dimensions, or NaN.
    """
    if image.dimensions != len(sides):
        raise DataError(
            f"{name} has {image.dimensions} dimensions where data.image_size has {len(sides)} sides; remove it, or "
            "correct data.image_size in params.yaml (three sides for volumes)."
        )
    if not image.finite:
        raise DataError(f"{name} holds NaN or infinite values; repair it, or remove it.")
    levels = to_levels(image, window)
    return resize_volume(levels, sides) if len(sides) == 3 else resize_picture(levels, sides, channels)


def resize_picture(levels: Levels, sides: tuple[int, ...], channels: int) -> Levels:
    """Resize (H, W) or (H, W, 3) bilinearly and free of aliases, as grey (channels 1) or in colour (3)."""
    picture = Pillow.fromarray(levels).convert(_MODES[channels])
    return np.asarray(picture.resize((sides[1], sides[0]), Pillow.Resampling.BILINEAR))


def resize_volume(levels: Levels, sides: tuple[int, ...]) -> Levels:
    """Resize (D, H, W) linearly along each axis and free of aliases; voxels are taken as cubes."""
    if levels.shape == sides:
        return levels
    depth, height, width = sides
    slices = [_resized(each, width, height) for each in levels.astype(np.float32)]
    flat = _resized(np.stack(slices).reshape(len(slices), -1), height * width, depth)
    return flat.round().clip(0, 255).astype(np.uint8).reshape(sides)


def _resized(plane: npt.NDArray[np.float32], width: int, height: int) -> npt.NDArray[np.float32]:
    return np.asarray(Pillow.fromarray(plane).resize((width, height), Pillow.Resampling.BILINEAR))
