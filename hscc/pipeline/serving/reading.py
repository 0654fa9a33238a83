"""Read one picture or volume, of any format that training data may have, as levels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from hscc.errors import DataError
from hscc.pipeline.data.formats.base import Image
from hscc.pipeline.data.formats.dicom import Dicom, decode_dicom, is_dicom
from hscc.pipeline.data.formats.known import FORMATS
from hscc.pipeline.data.formats.levels import Window, to_levels
from hscc.pipeline.data.formats.npz import decode_numpy, is_numpy
from hscc.pipeline.data.formats.pictures import DAMAGE, Pictures, from_pillow

Levels = npt.NDArray[np.uint8]

_FORMATS = ("JPEG", "PNG", "TIFF")
_MOST_PIXELS = 64_000_000  # a larger one is refused before it is decoded


@dataclass(frozen=True)
class Picture:
    """A decoded picture or volume.

    Attributes
    ----------
    name : str
        Its name in messages.
    pixels : ndarray of uint8, shape (H, W), (H, W, 3) or (D, H, W)
        Grey levels, black 0; red, green and blue; or the grey levels of a volume.
    colour : float
        Mean spread of the three channels, 0 to 255; 0 for a grey picture.
    modality, body_part : str
        As a DICOM file names them; "" where it does not, and for other files.
    """

    name: str
    pixels: Levels
    colour: float = 0.0
    modality: str = ""
    body_part: str = ""

    @property
    def is_volume(self) -> bool:
        """Whether it has slices."""
        return self.pixels.ndim == 3 and self.pixels.shape[2] != 3

    @property
    def grey(self) -> Levels:
        """Grey levels of a picture, (H, W) uint8."""
        return self.pixels if self.pixels.ndim == 2 else np.asarray(Pillow.fromarray(self.pixels).convert("L"))


def read_picture(path: Path, window: Window | None = None) -> Picture:
    """Read a JPEG, PNG, TIFF, DICOM, NIfTI or NumPy file, or a folder of DICOM slices; it is named by its path.

    Parameters
    ----------
    path : Path
        The file or folder; ``file.npz#test/12`` is one row of an array.
    window : (float, float), optional
        Values that become black and white, see `hscc.pipeline.data.formats.levels.to_levels`.

    Raises
    ------
    DataError
        If it is missing, or is none of these.
    """
    form = next(each for each in FORMATS if each.takes(path))
    try:
        if not isinstance(form, Pictures | Dicom) or path.is_dir():
            return _as_picture(form.read(path), str(path), window)
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); name a JPEG, PNG, DICOM, NIfTI or NumPy file."
        ) from error
    return decode_picture(content, str(path), window)


def decode_picture(content: bytes, name: str, window: Window | None = None) -> Picture:
    """Decode the bytes of a file.

    Parameters
    ----------
    content : bytes
        A whole JPEG, PNG, TIFF, DICOM or NumPy file.
    name : str
        Its name in messages.
    window : (float, float), optional
        As for `read_picture`.

    Returns
    -------
    Picture
        Its levels; a DICOM file's are grey, after its own rescaling and its own window, unless one is given.

    Raises
    ------
    DataError
        If the bytes are none of these.
    """
    if is_dicom(content):
        return _as_picture(decode_dicom(content, name), name, window)
    if is_numpy(content):
        return _as_picture(decode_numpy(content, name), name, window)
    try:
        with Pillow.open(io.BytesIO(content), formats=_FORMATS) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise DataError(f"{name} has {picture.width} x {picture.height} pixels, far too many; scale it down.")
            return _as_picture(from_pillow(picture), name, window)
    except DAMAGE as error:
        raise DataError(f"{name} is not a JPEG, PNG or DICOM picture, or is damaged; use a whole one.") from error


def _as_picture(image: Image, name: str, window: Window | None) -> Picture:
    if not image.finite:
        raise DataError(f"{name} holds NaN or infinite values; repair it.")
    pixels, colour = to_levels(image, window), 0.0
    if pixels.ndim == 3 and image.dimensions == 2:
        small = np.asarray(Pillow.fromarray(pixels).resize((64, 64)), dtype=np.float64)
        colour = float((small.max(axis=2) - small.min(axis=2)).mean())
    return Picture(name, pixels, colour, image.modality, image.body_part)
