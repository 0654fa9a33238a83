"""Series of slices as volumes, in the order of their positions; and what is wrong with some."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import generate_uid

from hscc.pipeline.data.formats.base import UnreadableError
from hscc.pipeline.data.formats.dicom import Dicom, decode_dicom
from hscc.pipeline.data.formats.known import images_in
from hscc.pipeline.data.formats.levels import to_levels
from tests.pipeline.pictures import dicom

SLICES = np.arange(6 * 4 * 5, dtype=np.uint16).reshape(6, 4, 5)
SERIES = generate_uid()


def write_series(folder: Path, order: list[int], **elements: Any) -> Path:
    """Write slices under names that say nothing of their order; the normal runs against the axis of the positions."""
    folder.mkdir(parents=True)
    for name, place in enumerate(order):
        position = {"ImagePositionPatient": [0, 0, -2.5 * place], "ImageOrientationPatient": [1, 0, 0, 0, -1, 0]}
        content = dicom(SLICES[place], **{"SeriesInstanceUID": SERIES, **position, **elements})
        (folder / f"{name}.dcm").write_bytes(content)
    return folder


def test_a_folder_is_one_volume_sorted_by_position(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "mass/p1", [3, 0, 5, 1, 4, 2], RescaleSlope=2, RescaleIntercept=-100)
    files = [f"mass/p1/{name}.dcm" for name in range(6)]
    assert images_in(tmp_path, files, volumes=True) == ["mass/p1"]
    assert images_in(tmp_path, files, volumes=False) == files
    found = Dicom().read(folder)
    np.testing.assert_array_equal(found.values, SLICES.astype(float) * 2 - 100)
    assert (found.mode, found.modality) == ("uint16", "MR")
    size, digest = Dicom().content(folder)
    assert size == sum(path.stat().st_size for path in folder.iterdir()) and len(digest) == 64


def test_a_file_named_by_its_uid_is_known_by_its_bytes(tmp_path: Path) -> None:
    found, other = tmp_path / "1.2.840.113619.2.55.3", tmp_path / "notes.2"
    found.write_bytes(dicom(SLICES[0]))
    other.write_text("not an image")
    assert Dicom().takes(found) and not Dicom().takes(other)


def test_slices_without_positions_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "p1"
    folder.mkdir()
    for name, place in enumerate([2, 0, 1]):
        (folder / f"{name}.dcm").write_bytes(dicom(SLICES[place], SeriesInstanceUID=SERIES, InstanceNumber=place + 1))
    np.testing.assert_array_equal(Dicom().read(folder).values, SLICES[:3])


def test_files_without_an_ending_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "IM0001").write_bytes(dicom(SLICES[0]))
    (tmp_path / "README").write_text("nothing")
    assert Dicom().takes(tmp_path / "IM0001") and not Dicom().takes(tmp_path / "README")


@pytest.mark.parametrize(
    ("order", "elements", "words"),
    [
        ([0, 1, 2, 4, 5], {}, r"p1 lacks a slice between its positions .*add it"),
        ([0, 1, 1, 2], {}, "two slices at one position"),
        ([0, 1, 2], {"SeriesInstanceUID": None}, "several series"),
    ],
)
def test_an_incomplete_series_is_refused(
    tmp_path: Path, order: list[int], elements: dict[str, Any], words: str
) -> None:
    folder = write_series(tmp_path / "p1", order)
    if elements:
        (folder / "0.dcm").write_bytes(dicom(SLICES[0], SeriesInstanceUID=generate_uid()))
    with pytest.raises(UnreadableError, match=words) as caught:
        Dicom().read(folder)
    assert caught.value.fault == "incomplete"


def test_a_damaged_slice_is_named(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "p1", [0, 1, 2])
    (folder / "1.dcm").write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(UnreadableError, match=r"1\.dcm is a DICOM file without pixels"):
        Dicom().read(folder)
    (folder / "1.dcm").write_bytes(dicom(SLICES[1], SeriesInstanceUID=SERIES, InstanceNumber=2, PixelData=b"\0\0"))
    for name in "02":
        place = int(name)
        (folder / f"{name}.dcm").write_bytes(dicom(SLICES[0], SeriesInstanceUID=SERIES, InstanceNumber=place + 1))
    with pytest.raises(UnreadableError, match=r"1\.dcm is a DICOM file whose pixels cannot be decoded"):
        Dicom().read(folder)


def test_a_file_of_several_frames_is_a_volume(tmp_path: Path) -> None:
    frames = SLICES[:3]
    content = dicom(frames[0], NumberOfFrames=3, PixelData=frames.tobytes())
    found = decode_dicom(content, "frames")
    np.testing.assert_array_equal(found.values, frames)
    (tmp_path / "mass").mkdir()
    for name in "ab":
        (tmp_path / f"mass/{name}.dcm").write_bytes(content)
    assert images_in(tmp_path, ["mass/a.dcm", "mass/b.dcm"], volumes=True) == ["mass/a.dcm", "mass/b.dcm"]


def test_a_stated_window_comes_before_the_files_own(tmp_path: Path) -> None:
    found = decode_dicom(dicom(SLICES[0] * 10, WindowCenter=50, WindowWidth=10), "slice")
    levels = to_levels(found, (0, 190))
    np.testing.assert_array_equal(levels, np.round(SLICES[0] * 10 / 190 * 255))
    assert set(np.unique(to_levels(found))) <= {0, 255, *range(256)} and to_levels(found)[0, 0] == 0
