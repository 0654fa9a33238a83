"""Further images: those that show what a network is judged by are left out, whatever their format or size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hscc.errors import DataError, ParamsError
from hscc.pipeline import layout
from hscc.pipeline.data.manifest import inspect_files
from hscc.pipeline.data.sources.pin import directory_hash, hash_files
from hscc.pipeline.data.unlabelled import read_unlabelled
from hscc.pipeline.data_spec import DataSpec, Unlabelled
from tests.pipeline.specs import changed

SPLITS = {"p1-a": "train", "p2-a": "val", "p3-a": "test"}


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)).resize((64, 64))


@pytest.fixture
def spec() -> DataSpec:
    return changed(image_size=32, group=r"(p\d+)-")


@pytest.fixture
def manifest(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / layout.DATA).mkdir()
    for seed, name in enumerate(SPLITS):
        picture(seed).save(tmp_path / layout.DATA / f"{name}.png")
    paths = [f"{name}.png" for name in SPLITS]
    digests = [fact.sha256 for fact in inspect_files(tmp_path / layout.DATA, paths)]
    subjects = [name.split("-")[0] for name in SPLITS]
    return pd.DataFrame(
        {"path": paths, "sha256": digests, "split_grouped": list(SPLITS.values()), "subject": subjects}
    )  # fmt: skip


def pinned(folder: Path) -> Unlabelled:
    return Unlabelled(folder=folder, md5=directory_hash(hash_files(folder)))


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Two new images, copies of those of each split in other clothes, and another image of a test subject."""
    folder = tmp_path / "more"
    (folder / "deep/er").mkdir(parents=True)
    picture(10).save(folder / "deep/er/new.png")
    picture(11).save(folder / "p9-b.jpg", quality=95)
    for seed, name in enumerate(SPLITS):
        picture(seed).resize((96, 96), Image.Resampling.BILINEAR).convert("RGB").save(
            folder / f"copy-of-{name[3:]}{seed}.png"
        )
    picture(12).save(folder / "p3-b.png")
    return folder


def test_near_copies_and_subjects_outside_training_are_left_out(
    manifest: pd.DataFrame, spec: DataSpec, more: Path, tmp_path: Path
) -> None:
    images = read_unlabelled(pinned(more), manifest, spec, "grouped", 2, tmp_path)
    expected = [np.asarray(picture(seed).resize((32, 32), Image.Resampling.BILINEAR)) for seed in (0, 10, 11)]
    assert images.shape == (3, 32, 32)
    for image, wanted in zip(images, expected, strict=True):
        assert np.abs(image.astype(int) - wanted).mean() < 12
    again = read_unlabelled(pinned(more), manifest, spec, "grouped", 2, tmp_path)
    assert np.array_equal(images, again)
    kept = tmp_path / layout.UNLABELLED
    assert len(list(kept.glob("*.csv"))) == 1
    trained = manifest.assign(split_grouped="train")  # nothing is held out
    assert len(read_unlabelled(pinned(more), trained, spec, "grouped", 2, tmp_path)) == 6


def test_another_folder_than_the_pinned_one_is_refused(
    manifest: pd.DataFrame, spec: DataSpec, more: Path, tmp_path: Path
) -> None:
    pin = pinned(more)
    picture(20).save(more / "later.png")
    with pytest.raises(ParamsError, match=directory_hash(hash_files(more))):
        read_unlabelled(pin, manifest, spec, "grouped", 2, tmp_path)


def test_what_cannot_be_used_is_named(manifest: pd.DataFrame, spec: DataSpec, more: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fewer than a batch of 4"):
        read_unlabelled(pinned(more), manifest, spec, "grouped", 4, tmp_path)
    (more / "half.png").write_bytes((more / "p3-b.png").read_bytes()[:-200])
    with pytest.raises(DataError, match=r"half\.png"):
        read_unlabelled(pinned(more), manifest, spec, "grouped", 2, tmp_path)
    with pytest.raises(DataError, match="absent"):
        absent = Unlabelled(folder=Path("absent"), md5=pinned(more).md5)
        read_unlabelled(absent, manifest, spec, "grouped", 2, tmp_path)
