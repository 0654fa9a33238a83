"""NIfTI volumes lie as axial DICOM series do, whatever the order of the axes in the file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from hscc.pipeline.data.formats.base import UnreadableError
from hscc.pipeline.data.formats.known import format_of

nibabel = pytest.importorskip("nibabel", reason="extra nifti")

VALUES = np.random.default_rng(0).integers(-500, 500, (5, 6, 7)).astype(np.int16)  # right, front, head


def save(path: Path, values: np.ndarray, codes: str) -> Path:
    """Write values of axes to the right, front and head in another order of axes."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = np.eye(4) @ inv_ornt_aff(change, values.shape)
    nibabel.save(nibabel.Nifti1Image(apply_orientation(values, change), affine), path)
    return path


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIR"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_slices_go_to_the_head_rows_to_the_back_columns_to_the_left(tmp_path: Path, codes: str, ending: str) -> None:
    path = save(tmp_path / f"a{ending}", VALUES, codes)
    found = format_of(path).read(path)
    np.testing.assert_array_equal(found.values, VALUES.transpose(2, 1, 0)[:, ::-1, ::-1])
    assert (found.sides, found.mode) == ((7, 6, 5), "int16")


def test_nan_is_seen(tmp_path: Path) -> None:
    values = VALUES.astype(np.float32)
    values[2, 2, 2] = np.nan
    path = save(tmp_path / "a.nii", values, "RAS")
    assert not format_of(path).read(path).finite


def test_several_volumes_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), dtype=np.int16), np.eye(4)), path)
    with pytest.raises(UnreadableError, match=r"a\.nii\.gz is of shape \(4, 4, 4, 3\)"):
        format_of(path).read(path)
    path.write_bytes(gzip.compress(b"nothing"))
    with pytest.raises(UnreadableError, match="cannot be read as NIfTI"):
        format_of(path).read(path)
