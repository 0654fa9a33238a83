"""Read one picture, JPEG, PNG or DICOM, as grey levels, and refuse what is plainly no brain MRI slice."""

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

Grey = npt.NDArray[np.uint8]

_MODALITY = "MR"
_BODY_PARTS = ("", "HEAD", "BRAIN", "SKULL", "HEADNECK", "WHOLEBODY")
_DICOM_MAGIC = slice(128, 132)  # "DICM" after a preamble of 128 bytes
_FORMATS = ("JPEG", "PNG")
_MOST_PIXELS = 64_000_000  # a larger one is refused before it is decoded
_CONTRAST = (0.5, 99.5)  # percentiles shown as black and white where a DICOM file names no window
_SHORTEST_SIDE, _LONGEST_SIDE = 64, 4096  # pixels: validate.min_side and max_side, which a deployed network cannot read
_MOST_OBLONG = 2.0
_MOST_COLOUR = 8.0  # of 255
_LEAST_CONTRAST = 15.0  # standard deviation of the grey levels
_DARK = 50  # grey levels
_LEAST_DARK_BORDER = 0.3
_BRIGHTEST_CORNER = 60.0  # mean grey level of the second darkest corner
_SIDE, _BAND, _CORNER = 128, 6, 16  # pixels, of the picture made small


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes
    ----------
    name : str
        Its name in messages.
    grey : ndarray of uint8, shape (H, W)
        Grey levels, black 0.
    colour : float
        Mean spread of the three channels, 0 to 255; 0 for a grey picture.
    """

    name: str
    grey: Grey
    colour: float


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
        Its grey levels; a DICOM file's after its own rescaling and window.

    Raises
    ------
    DataError
        If the bytes are none of these, or a DICOM file is not one slice of an MR examination of the head.
    """
    if content[_DICOM_MAGIC] == b"DICM":
        return Picture(name, _decode_dicom(content, name), 0.0)
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise DataError(
                    f"{name} has {image.width} x {image.height} pixels, far more than a slice; scale it down."
                )
            return _from_pillow(image, name)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is not a JPEG, PNG or DICOM picture, or is damaged; use a whole one.") from error


def refuse_implausible(picture: Picture) -> None:
    """Refuse what is plainly not a brain MRI slice.

    Raises
    ------
    DataError
        In one sentence, with what is wrong.
    """
    fault = _fault(picture)
    if fault:
        raise DataError(f"{picture.name} does not look like a brain MRI slice: {fault}; use one.")


def _from_pillow(image: Image.Image, name: str) -> Picture:
    if image.mode.startswith(("I", "F")):  # 16 bits: spread what is there over the 256 levels, as a viewer does
        return Picture(name, _to_levels(np.asarray(image, dtype=np.float64)), 0.0)
    small = np.asarray(image.convert("RGB").resize((64, 64)), dtype=np.float64)
    colour = float((small.max(axis=2) - small.min(axis=2)).mean())
    return Picture(name, np.asarray(image.convert("L"), dtype=np.uint8), colour)


def _decode_dicom(content: bytes, name: str) -> Grey:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that violate the standard but do not matter here
            found = dcmread(io.BytesIO(content))
            _refuse_other_examinations(found, name)
            return _dicom_levels(found)
    except (InvalidDicomError, AttributeError, KeyError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(
            f"{name} is a DICOM file whose pixels cannot be decoded ({type(error).__name__}); export it uncompressed, "
            "or as PNG."
        ) from error


def _refuse_other_examinations(found: Any, name: str) -> None:
    modality = str(found.get("Modality", "")).upper()
    if modality and modality != _MODALITY:
        raise DataError(f"{name} is of modality {modality}, the network takes {_MODALITY}; use a brain MRI slice.")
    part = str(found.get("BodyPartExamined", "")).upper().replace(" ", "")
    if part not in _BODY_PARTS:
        raise DataError(f"{name} shows the body part {part}, the network takes the brain; use a brain MRI slice.")
    frames = int(found.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise DataError(f"{name} holds {frames} frames; export the slice to look at as a file of its own.")


def _dicom_levels(found: Any) -> Grey:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    pixels = apply_modality_lut(found.pixel_array, found)
    if "WindowCenter" in found or "VOILUTSequence" in found:
        windowed = np.asarray(apply_voi_lut(pixels, found), dtype=np.float64)
        grey = _stretch(windowed, float(windowed.min()), float(windowed.max()))
    else:
        grey = _to_levels(np.asarray(pixels, dtype=np.float64))
    return 255 - grey if found.get("PhotometricInterpretation") == "MONOCHROME1" else grey


def _to_levels(values: npt.NDArray[np.float64]) -> Grey:
    low, high = np.percentile(values, _CONTRAST)
    return _stretch(values, float(low), float(high))


def _stretch(values: npt.NDArray[np.float64], low: float, high: float) -> Grey:
    span = max(high - low, 1e-12)
    levels: Grey = np.clip((values - low) / span * 255.0, 0.0, 255.0).round().astype(np.uint8)
    return levels


def _fault(picture: Picture) -> str | None:
    height, width = picture.grey.shape
    if min(height, width) < _SHORTEST_SIDE or max(height, width) > _LONGEST_SIDE:
        return f"it has {width} x {height} pixels, sides of {_SHORTEST_SIDE} to {_LONGEST_SIDE} are expected"
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
