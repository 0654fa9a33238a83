from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hscc.errors import ArtifactError, DataError
from hscc.pipeline.data.manifest import group_near_copies, read_manifest, scan, write_manifest
from hscc.pipeline.data.masks import load_masks
from hscc.pipeline.data.splits import assign_splits
from hscc.pipeline.data_spec import DataSpec
from tests.pipeline.specs import changed

CLASSES = ("background", "vessel")
MASKS = {
    "images": r"^(\w+)/images/(\d+)\.png$", "mask": r"\1/masks/\2.png", "field": r"\1/fields/\2.png",
    "values": {"background": 0, "vessel": 255},
}  # fmt: skip


def spec(**masks: object) -> DataSpec:
    texts = {**changed().texts.model_dump(), "classes": {}}
    return changed(
        task="segmentation", classes=CLASSES, channels=3, texts=texts, remarks=(), near_duplicate=0.9999,
        official={"train": "train", "val": None, "test": "test"}, masks={**MASKS, **masks},
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight noisy images of 20 x 24 pixels; the mask is the left half, the field of view all but the last row."""
    rng = np.random.default_rng(0)
    for number in range(8):
        folder = tmp_path / ("train" if number < 6 else "test")
        mask, field = np.zeros((20, 24), dtype=np.uint8), np.full((20, 24), 255, dtype=np.uint8)
        mask[:, :12], field[-1] = 255, 0
        for name, levels in (("images", rng.integers(0, 255, (20, 24, 3))), ("masks", mask), ("fields", field)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(levels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return tmp_path


def test_masks_come_with_their_images(root: Path, tmp_path: Path) -> None:
    frame, thumbnails = scan(root, spec())
    frame = assign_splits(group_near_copies(frame, thumbnails, 0.9999), spec())
    write_manifest(frame, tmp_path / "manifest.csv")
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert manifest["path"].tolist() == sorted(f"{'train' if n < 6 else 'test'}/images/{n}.png" for n in range(8))
    assert manifest["mask"].tolist() == [path.replace("images", "masks") for path in manifest["path"]]
    assert (manifest["split_official"] == "test").sum() == 2 and set(manifest["split_official"]) > {"train", "val"}
    codes = load_masks(manifest, root, spec().masks, (20, 24), CLASSES, tmp_path / "cache")
    assert (codes[:, :-1, :12] == 2).all() and (codes[:, :-1, 12:] == 1).all() and (codes[:, -1] == 0).all()
    half = load_masks(manifest, root, spec().masks, (10, 12), CLASSES, tmp_path / "cache")
    assert half.shape == (8, 10, 12) and set(np.unique(half)) == {0, 1, 2}
    with pytest.raises(ArtifactError, match="no masks"):
        load_masks(manifest.drop(columns="mask_sha256"), root, spec().masks, (10, 12), CLASSES, tmp_path / "cache")


def test_a_mask_that_does_not_fit_is_refused(root: Path) -> None:
    path = root / "train" / "masks" / "3.png"
    for levels, said in (
        (np.zeros((20, 20), dtype=np.uint8), r"3\.png is 20 x 20 pixels and its image .* 24 x 20"),
        (np.full((20, 24), 7, dtype=np.uint8), r"3\.png has the level 7, which data\.masks\.values"),
    ):
        Image.fromarray(levels).save(path)
        with pytest.raises(DataError, match=said):
            scan(root, spec())
    path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png cannot be read as a mask"):
        scan(root, spec())
    path.unlink()
    with pytest.raises(DataError, match=r"train/images/3\.png has no mask: train/masks/3\.png does not exist"):
        scan(root, spec())


def test_a_pattern_that_finds_nothing_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="matches none of 24 files"):
        scan(root, spec(images=r"^(\w+)/pictures/(\d+)\.png$"))


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({"mask": r"\1/masks/\3.png"}, "asks for group 3"),
        ({"values": {"background": 0}}, "must name the same classes"),
        ({"values": {"background": 0, "vessel": 0}}, "two classes the same level"),
    ],
)
def test_a_spec_that_cannot_hold_is_refused(masks: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        spec(**masks)
