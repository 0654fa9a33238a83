"""Read one picture, JPEG, PNG or DICOM, as levels."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from hscc.errors import DataError

Levels = npt.NDArray[np.uint8]

_DICOM_MAGIC = slice(128, 132)  # "DICM" after a preamble of 128 bytes
_FORMATS = ("JPEG", "PNG")
_MOST_PIXELS = 64_000_000  # a larger one is refused before it is decoded
_CONTRAST = (0.5, 99.5)  # percentiles shown as black and white where a DICOM file names no window
_GREY_MODES = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes
    ----------
    name : str
        Its name in messages.
    pixels : ndarray of uint8, shape (H, W) or (H, W, 3)
        Levels levels, black 0, or red, green and blue.
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
    def grey(self) -> Levels:
        """Its grey levels, (H, W) uint8."""
        return self.pixels if self.pixels.ndim == 2 else np.asarray(Image.fromarray(self.pixels).convert("L"))


def read_picture(path: Path) -> Picture:
    """Read a JPEG, PNG or DICOM file; the picture is named by its path.

    Raises
    ------
    DataError
        If the file is missing, or is none of these.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); name a JPEG, PNG or DICOM file.") from error
    return decode_picture(content, str(path))


def decode_picture(content: bytes, name: str) -> Picture:
    """Decode the bytes of a file.

    Parameters
    ----------
    content : bytes
        A whole JPEG, PNG or DICOM file.
    name : str
        Its name in messages.

    Returns
    -------
    Picture
        Its levels; a DICOM file's are grey, after its own rescaling and window.

    Raises
    ------
    DataError
        If the bytes are none of these, or a DICOM file holds several frames.
    """
    if content[_DICOM_MAGIC] == b"DICM":
        return _decode_dicom(content, name)
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(f"{name} has {image.width} x {image.height} pixels, far too many; scale it down.")
            return _from_pillow(image, name)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is not a JPEG, PNG or DICOM picture, or is damaged; use a whole one.") from error


def _from_pillow(image: Image.Image, name: str) -> Picture:
    if image.mode.startswith(("I", "F")):  # 16 bits: spread what is there over the 256 levels, as a viewer does
        return Picture(name, _to_levels(np.asarray(image, dtype=np.float64)))
    if image.mode in _GREY_MODES:
        return Picture(name, np.asarray(image.convert("L"), dtype=np.uint8))
    colours = image.convert("RGB")
    small = np.asarray(colours.resize((64, 64)), dtype=np.float64)
    colour = float((small.max(axis=2) - small.min(axis=2)).mean())
    return Picture(name, np.asarray(colours, dtype=np.uint8), colour)


def _decode_dicom(content: bytes, name: str) -> Picture:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that violate the standard but do not matter here
            found = dcmread(io.BytesIO(content))
            frames = int(found.get("NumberOfFrames", 1) or 1)
            if frames != 1:
                raise DataError(f"{name} holds {frames} frames; export the one to look at as a file of its own.")
            return Picture(
                name,
                _dicom_levels(found),
                modality=str(found.get("Modality", "")).upper(),
                body_part=str(found.get("BodyPartExamined", "")).upper().replace(" ", ""),
            )
    except (InvalidDicomError, AttributeError, KeyError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{name} is a DICOM file whose pixels cannot be decoded ({type(error).__name__}); export it uncompressed, "
            "or as PNG."
        ) from error


def _dicom_levels(found: Any) -> Levels:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    pixels = apply_modality_lut(found.pixel_array, found)
    if "WindowCenter" in found or "VOILUTSequence" in found:
        windowed = np.asarray(apply_voi_lut(pixels, found), dtype=np.float64)
        grey = _stretch(windowed, float(windowed.min()), float(windowed.max()))
    else:
        grey = _to_levels(np.asarray(pixels, dtype=np.float64))
    return 255 - grey if found.get("PhotometricInterpretation") == "MONOCHROME1" else grey


def _to_levels(values: npt.NDArray[np.float64]) -> Levels:
    low, high = np.percentile(values, _CONTRAST)
    return _stretch(values, float(low), float(high))


def _stretch(values: npt.NDArray[np.float64], low: float, high: float) -> Levels:
    span = max(high - low, 1e-12)
    levels: Levels = np.clip((values - low) / span * 255.0, 0.0, 255.0).round().astype(np.uint8)
    return levels
