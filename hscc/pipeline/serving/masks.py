"""Answers of a segmentation as pictures and as shares of classes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Probabilities = npt.NDArray[np.float64]


def shares_of_classes(found: Probabilities) -> Probabilities:
    """Share of the pixels of each class, (N, C), in probabilities (N, C, H, W)."""
    classes = found.shape[1]
    given = found.argmax(axis=1)
    return np.stack([(given == index).mean(axis=(1, 2)) for index in range(classes)], axis=1)


def mask_of(found: Probabilities) -> Image.Image:
    """Most probable class of each pixel, of probabilities (C, H, W): black for the first class, white for the last."""
    step = 255 // (len(found) - 1)
    return Image.fromarray((found.argmax(axis=0) * step).astype(np.uint8))


def mask_png(found: Probabilities) -> bytes:
    """Give `mask_of` as the bytes of a PNG file."""
    buffer = io.BytesIO()
    mask_of(found).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_mask(found: Probabilities, size: tuple[int, ...], target: Path) -> None:
    """Write `mask_of` as PNG in the size of the picture, (height, width)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    mask_of(found).resize((size[1], size[0]), Image.Resampling.NEAREST).save(target, "PNG", optimize=True)
