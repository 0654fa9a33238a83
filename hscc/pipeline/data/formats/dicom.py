"""DICOM: single pictures, files of several frames, and folders of slices that are one volume."""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from hscc.pipeline.data.formats.base import Format, Image, UnreadableError, Values

_MAGIC_AT, _MAGIC = 128, b"DICM"
_ENDINGS = (".dcm", ".dicom", ".ima")
# What pydicom and its decoders raise on damaged or unknown content.
_DAMAGE = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_GAP = 1.5  # of the usual distance of slices: a larger one lacks a slice


class Dicom(Format):
    """A file is one picture; in a data set of volumes a folder of single slices is one image."""

    name = "DICOM"

    def takes(self, path: Path) -> bool:
        """Decide by the name, where it has no ending by the first bytes; a folder is a series."""
        if path.suffix.lower() in _ENDINGS or path.is_dir():
            return True
        by_uid = path.suffix[1:].isdigit()  # 1.2.840.113619.2.55.3 has no ending
        if (path.suffix and not by_uid) or not path.is_file():
            return False
        with path.open("rb") as file:
            return is_dicom(file.read(_MAGIC_AT + len(_MAGIC)))

    def images(self, root: Path, files: Sequence[str], volumes: bool) -> list[str]:
        """One image per folder of a data set of volumes, unless its files have several frames each."""
        if not volumes:
            return list(files)
        folders: dict[str, list[str]] = {}
        for file in files:
            folders.setdefault(PurePosixPath(file).parent.as_posix(), []).append(file)
        found = []
        for folder, held in folders.items():
            found += held if folder == "." or _several_frames(root / held[0]) else [folder]
        return found

    def read(self, path: Path) -> Image:
        """Read a file or a folder."""
        return _read_series(path) if path.is_dir() else decode_dicom(path.read_bytes(), str(path))

    def content(self, path: Path) -> tuple[int, str]:
        """Of a folder the bytes of all slices, and the SHA-256 over their sorted SHA-256."""
        if not path.is_dir():
            return super().content(path)
        sizes, digests = zip(*(super(Dicom, self).content(file) for file in _slices(path)), strict=True)
        return sum(sizes), hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def is_dicom(content: bytes) -> bool:
    """Whether bytes begin as a DICOM file does."""
    return content[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def decode_dicom(content: bytes, name: str) -> Image:
    """Decode the bytes of a file: rescaled by its own slope, with its own window beside.

    Parameters
    ----------
    content : bytes
        A whole DICOM file.
    name : str
        Its name in messages.

    Returns
    -------
    Image
        A grey picture or, from several frames, a volume.

    Raises
    ------
    UnreadableError
        If the pixels cannot be decoded.
    """
    return _image(_parsed(content, name), name)


def _parsed(content: bytes, name: str, pixels: bool = True) -> Any:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that violate the standard but do not matter here
            return dcmread(io.BytesIO(content), stop_before_pixels=not pixels)
    except (InvalidDicomError, *_DAMAGE) as error:
        raise _undecodable(name, error) from error


def _undecodable(name: str, error: Exception) -> UnreadableError:
    return UnreadableError(
        f"{name} is a DICOM file whose pixels cannot be decoded ({type(error).__name__}); export it uncompressed, or "
        "as PNG."
    )


def _image(found: Any, name: str) -> Image:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    described = Image(
        np.empty((0, 0)),
        "RGB",
        modality=str(found.get("Modality", "")).upper(),
        body_part=str(found.get("BodyPartExamined", "")).upper().replace(" ", ""),
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = found.pixel_array
            if int(found.get("SamplesPerPixel", 1)) == 3:
                return replace(described, values=np.asarray(stored, dtype=np.uint8))
            values = apply_modality_lut(stored, found)
            windowed = "WindowCenter" in found or "VOILUTSequence" in found
            shown = np.asarray(apply_voi_lut(values, found), dtype=np.float64) if windowed else None
    except _DAMAGE as error:
        raise _undecodable(name, error) from error
    return replace(
        described,
        values=np.asarray(values, dtype=np.float64 if values.ndim == 2 else np.float32),
        mode=stored.dtype.name,
        shown=shown,
        inverted=found.get("PhotometricInterpretation") == "MONOCHROME1",
    )


def _several_frames(path: Path) -> bool:
    try:
        return int(_parsed(path.read_bytes(), str(path), pixels=False).get("NumberOfFrames", 1) or 1) > 1
    except UnreadableError:
        return False


def _slices(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and Dicom().takes(path))


def _read_series(folder: Path) -> Image:
    """Read a folder of slices as one volume, in the order of their positions along their common normal."""
    files = _slices(folder)
    if not files:
        raise UnreadableError(f"{folder} holds no DICOM file; remove the folder, or add the slices.")
    parsed = [_parsed(path.read_bytes(), str(path)) for path in files]
    without = next((path for path, found in zip(files, parsed, strict=True) if "PixelData" not in found), None)
    if without is not None:
        raise UnreadableError(f"{without} is a DICOM file without pixels; remove it, or export it again.")
    _refuse_mixture(parsed, folder)
    order, positions = _positions(parsed, folder)
    _refuse_gaps(positions, folder)
    slices = [_image(parsed[index], str(files[index])) for index in order]
    if any(one.values.ndim != 2 for one in slices):
        raise UnreadableError(f"{folder} mixes slices with colours or several frames; keep grey slices.", "incomplete")
    first = slices[0]
    shown = None if any(one.shown is None for one in slices) else _stacked([one.shown for one in slices])
    return Image(
        _stacked([one.values for one in slices]), first.mode, shown, first.inverted, first.modality, first.body_part
    )


def _stacked(slices: Sequence[Values | None]) -> Values:
    return np.stack([np.asarray(one, dtype=np.float32) for one in slices])


def _refuse_mixture(parsed: Sequence[Any], folder: Path) -> None:
    for tag, what in (("SeriesInstanceUID", "several series"), ("Rows", "several sizes"), ("Columns", "several sizes")):
        if len({str(found.get(tag, "")) for found in parsed}) > 1:
            raise UnreadableError(
                f"{folder} holds slices of {what}; keep those of one series in a folder.", "incomplete"
            )


def _positions(parsed: Sequence[Any], folder: Path) -> tuple[list[int], Values]:
    """Order of the slices and their places: in mm along the normal, or numbers where no position is given."""
    try:
        if all("ImagePositionPatient" in found and "ImageOrientationPatient" in found for found in parsed):
            across = np.asarray(parsed[0].ImageOrientationPatient, dtype=np.float64)
            normal = np.cross(across[:3], across[3:])
            places = np.asarray([np.dot(normal, np.asarray(found.ImagePositionPatient, float)) for found in parsed])
        else:
            places = np.asarray([float(found.InstanceNumber) for found in parsed])
    except (AttributeError, TypeError, ValueError) as error:
        raise UnreadableError(
            f"{folder} has slices without a position and a number, so that their order is unknown; export them again.",
            "incomplete",
        ) from error
    order = np.argsort(places, kind="stable")
    return order.tolist(), places[order]


def _refuse_gaps(positions: Values, folder: Path) -> None:
    steps = np.diff(positions)
    if not len(steps):
        return
    usual = float(np.median(steps))
    if steps.min() <= 0.01 * usual:
        raise UnreadableError(f"{folder} holds two slices at one position; remove one of them.", "incomplete")
    if steps.max() > _GAP * usual:
        place = int(steps.argmax())
        raise UnreadableError(
            f"{folder} lacks a slice between its positions {positions[place]:g} and {positions[place + 1]:g} (usual "
            f"distance {usual:g}); add it, or remove the series.",
            "incomplete",
        )
