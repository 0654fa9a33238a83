"""The formats that are known, and the one that a file is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hscc.pipeline.data.formats.base import Format
from hscc.pipeline.data.formats.dicom import Dicom
from hscc.pipeline.data.formats.nifti import Nifti
from hscc.pipeline.data.formats.npz import ARRAYS
from hscc.pipeline.data.formats.pictures import Pictures

FORMATS: tuple[Format, ...] = (ARRAYS, Nifti(), Dicom(), Pictures())
"""The first that takes a file reads it."""


def format_of(path: Path) -> Format:
    """Format of a file, a folder of slices, or an image inside a file."""
    return next(each for each in FORMATS if each.takes(path))


def images_in(root: Path, files: Sequence[str], volumes: bool) -> list[str]:
    """Name all images that files hold, sorted.

    Parameters
    ----------
    root : Path
        The data folder.
    files : sequence of str
        Posix paths relative to it.
    volumes : bool
        Whether the data set is one of volumes, so that a folder of DICOM slices is one image.
    """
    held: dict[int, list[str]] = {}
    for file in files:
        held.setdefault(FORMATS.index(format_of(root / file)), []).append(file)
    return sorted(image for index, own in held.items() for image in FORMATS[index].images(root, own, volumes))
