"""NIfTI volumes, ``.nii`` and ``.nii.gz``, read with nibabel (extra ``nifti``)."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from hscc.errors import requires_extra
from hscc.pipeline.data.formats.base import Format, Image, UnreadableError

_ENDINGS = (".nii", ".nii.gz")


class Nifti(Format):
    """One volume per file."""

    name = "NIfTI"

    def takes(self, path: Path) -> bool:
        """Decide by the name."""
        return path.name.lower().endswith(_ENDINGS)

    def read(self, path: Path) -> Image:
        """Read a volume, turned as an axial DICOM series lies.

        Slices go to the head, rows to the back and columns to the patient's left, whatever the order in the file.
        """
        with requires_extra("nifti", f"{path.name}, a NIfTI file,"):
            import nibabel
        try:
            loaded = nibabel.as_closest_canonical(nibabel.load(path))
            values = np.asarray(loaded.dataobj)
        except FileNotFoundError:
            raise
        except (
            nibabel.filebasedimages.ImageFileError,
            nibabel.spatialimages.HeaderDataError,
            OSError,
            EOFError,
            ValueError,
            zlib.error,
        ) as error:
            raise UnreadableError(f"{path} cannot be read as NIfTI ({error}); export it again.") from error
        while values.ndim > 3 and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim != 3 or values.dtype.kind not in "uif":
            raise UnreadableError(
                f"{path} is of shape {values.shape} and type {values.dtype}; write one volume of three axes per file."
            )
        # Axes to the right, the front and the head become slices, rows and columns.
        axial = values.transpose(2, 1, 0)[:, ::-1, ::-1]
        return Image(np.ascontiguousarray(axial), str(loaded.get_data_dtype()))
