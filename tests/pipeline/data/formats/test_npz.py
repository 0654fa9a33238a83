"""Arrays with one image per row, and files with one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hscc.errors import DataError
from hscc.pipeline.data.formats.base import UnreadableError
from hscc.pipeline.data.formats.known import format_of, images_in
from hscc.pipeline.data.formats.npz import NumpyArrays
from hscc.pipeline.data.listing import list_images
from tests.pipeline.specs import changed

ARRAYS = changed(
    layout="arrays",
    official={"train": "train", "val": "val", "test": "test"},
    classes=["thin", "thick"],
    image_size=[16, 16, 16],
    normalisation={"mean": [0.5], "std": [0.5]},
    texts={**changed().texts.model_dump(), "classes": {}},
    remarks=[],
)


def volumes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 6, 7), dtype=np.uint8)


def save(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def test_each_row_is_an_image_with_its_label_and_official_split(tmp_path: Path) -> None:
    train, test = volumes(3), volumes(2, 1)
    save(
        tmp_path / "all.npz",
        train_images=train, train_labels=np.array([[0], [1], [0]]), test_images=test, test_labels=np.array([1, 1]),
    )  # fmt: skip
    frame = list_images(tmp_path, ARRAYS)
    rows = [*(f"test/{row}" for row in range(2)), *(f"train/{row}" for row in range(3))]
    assert frame["path"].tolist() == [f"all.npz#{row}" for row in rows]
    assert frame["label"].tolist() == ["thick", "thick", "thin", "thick", "thin"]
    assert frame["official_split"].tolist() == ["test"] * 2 + ["train"] * 3
    for path in frame["path"]:
        split, row = path.split("#")[1].split("/")
        found = format_of(tmp_path / path).read(tmp_path / path)
        np.testing.assert_array_equal(found.values, {"train": train, "test": test}[split][int(row)])
        assert (found.sides, found.mode) == ((5, 6, 7), "uint8")


def test_labels_may_be_names_and_an_archive_need_not_be_split(tmp_path: Path) -> None:
    save(tmp_path / "all.npz", images=volumes(2), labels=np.array(["thick", "thin"]))
    frame = list_images(tmp_path, changed(**{**ARRAYS.model_dump(), "official": None, "protocol": "grouped"}))
    assert frame["path"].tolist() == ["all.npz#0", "all.npz#1"]
    assert frame["label"].tolist() == ["thick", "thin"]


def test_a_label_outside_the_classes_stays_a_number_that_validation_names(tmp_path: Path) -> None:
    save(tmp_path / "all.npz", train_images=volumes(2), train_labels=np.array([0, 7]))
    assert list_images(tmp_path, ARRAYS)["label"].tolist() == ["thin", "7"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"train_images": volumes(2)}, r"all\.npz has train_images but no train_labels; add"),
        ({"train_images": volumes(2), "train_labels": np.zeros(3)}, "has 3 train_labels for 2 train_images"),
        ({"pixels": volumes(2)}, "holds no NPZ file with an array of images"),
    ],
)
def test_arrays_without_labels_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], words: str) -> None:
    save(tmp_path / "all.npz", **arrays)
    with pytest.raises(DataError, match=words):
        list_images(tmp_path, ARRAYS)


def test_files_of_one_image_lie_in_folders_of_classes(tmp_path: Path) -> None:
    for name, index in (("thin/a.npz", 0), ("thick/b.npz", 1)):
        save(tmp_path / name, values=volumes(2)[index])
    np.save(tmp_path / "thick" / "c.npy", volumes(1)[0][None])
    files = ["thick/b.npz", "thick/c.npy", "thin/a.npz"]
    assert images_in(tmp_path, files, volumes=True) == files
    np.testing.assert_array_equal(NumpyArrays().read(tmp_path / "thick/b.npz").values, volumes(2)[1])
    assert NumpyArrays().read(tmp_path / "thick/c.npy").sides == (5, 6, 7)


def test_equal_values_have_equal_hashes_wherever_they_are(tmp_path: Path) -> None:
    same = volumes(1)[[0, 0]]
    save(tmp_path / "all.npz", train_images=same, train_labels=np.array([0, 0]))
    np.save(tmp_path / "alone.npy", same[0])
    contents = [NumpyArrays().content(tmp_path / name) for name in ("all.npz#train/0", "all.npz#train/1", "alone.npy")]
    assert len(set(contents)) == 1 and contents[0][0] == 5 * 6 * 7


@pytest.mark.parametrize("cut", [10, 200])
def test_a_damaged_file_is_named(tmp_path: Path, cut: int) -> None:
    path = save(tmp_path / "a.npz", values=volumes(1)[0])
    path.write_bytes(path.read_bytes()[:cut])
    assert NumpyArrays().images(tmp_path, ["a.npz"], volumes=True) == ["a.npz"]
    assert len(NumpyArrays().content(path)[1]) == 64
    with pytest.raises(UnreadableError, match=r"a\.npz cannot be read as NumPy arrays"):
        NumpyArrays().read(path)


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, values=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UnreadableError, match="cannot be read"):
        NumpyArrays().read(path)
