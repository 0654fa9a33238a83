"""What lies in a folder of data, by the endings of the file names; of files without one the first bytes are read."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from hscc.errors import DataError
from hscc.pipeline.data.formats.dicom import Dicom
from hscc.pipeline.data.formats.known import images_in
from hscc.pipeline.data.formats.nifti import Nifti

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")  # what the stage validate decodes
TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Survey:
    """The files of a data set.

    Attributes
    ----------
    root : Path
        The data folder, absolute.
    files : tuple of str
        Sorted posix paths relative to it.
    """

    root: Path
    files: tuple[str, ...]

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Those that are named as images, and DICOM files."""
        return tuple(sorted({*self.ending_in(IMAGES), *self.dicom}))

    @cached_property
    def dicom(self) -> tuple[str, ...]:
        """DICOM files."""
        return tuple(path for path in self.files if Dicom().takes(self.root / path))

    @cached_property
    def volumes(self) -> tuple[str, ...]:
        """NIfTI files, DICOM files of several frames, and folders of DICOM slices."""
        files = {*self.dicom, *(path for path in self.files if Nifti().takes(self.root / path))}
        return tuple(images_in(self.root, sorted(files), volumes=True))

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """Those that are named as tables, those nearest to the root first."""
        return tuple(sorted(self.ending_in(TABLES), key=lambda path: (path.count("/"), path)))

    def ending_in(self, endings: Collection[str]) -> tuple[str, ...]:
        """Files with one of these endings, in any case."""
        return tuple(path for path in self.files if PurePosixPath(path).suffix.lower() in endings)


def survey(folder: Path) -> Survey:
    """List a folder of data, or the only folder that it holds.

    Raises
    ------
    DataError
        If it is missing, is no folder, or holds no file.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        kind = "is no folder; unpack it and name the folder" if root.exists() else "does not exist; correct --data"
        raise DataError(f"{folder} {kind}.")
    while True:
        inside = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir():
            break
        root = inside[0]
    files = tuple(
        sorted(
            (Path(parent) / name).relative_to(root).as_posix()
            for parent, _, names in os.walk(root, followlinks=True)
            for name in names
        )
    )
    if not files:
        raise DataError(f"{folder} holds no file; name the folder of the data with --data.")
    return Survey(root, files)
