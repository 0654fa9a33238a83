"""Pictures that Pillow reads: JPEG, PNG, BMP and TIFF, of 8 or 16 bits."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from hscc.pipeline.data.formats.base import Format, Image, UnreadableError

# Raster formats only: Pillow would hand others (EPS) to outside programs.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
# What Pillow's decoders raise on damaged bytes.
DAMAGE = (OSError, SyntaxError, ValueError, IndexError, struct.error, Pillow.DecompressionBombError)
_GREY_MODES = ("1", "L", "LA", "La")


class Pictures(Format):
    """Everything that no other format takes."""

    name = "JPEG, PNG, BMP, TIFF"

    def takes(self, path: Path) -> bool:
        """Take any file: names say little, so the bytes decide."""
        return True

    def read(self, path: Path) -> Image:
        """Decode all pixels of a file."""
        content = path.read_bytes()
        try:
            with Pillow.open(io.BytesIO(content), formats=_FORMATS) as picture:
                return from_pillow(picture)
        except DAMAGE as error:
            raise UnreadableError(
                f"{path} cannot be decoded ({error}); restore it with `hscc fetch` or remove it."
            ) from error


def from_pillow(picture: Pillow.Image) -> Image:
    """Take the pixels of an open picture: 16 bits and floats as they are, else grey or colours of 8 bits."""
    mode = picture.mode
    if mode.startswith(("I", "F")):
        return Image(np.asarray(picture), mode)
    return Image(np.asarray(picture.convert("L" if mode in _GREY_MODES else "RGB"), dtype=np.uint8), mode)
