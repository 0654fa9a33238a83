from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hscc.errors import DataError
from hscc.pipeline.data.near_duplicates import correlated_pairs, thumbnail
from hscc.pipeline.data.phantom.anatomy import VIEWS, draw_head
from hscc.pipeline.data.phantom.dataset import CLASSES, draw_dataset
from hscc.pipeline.data.phantom.dataset import FOLDERS as OFFICIAL_SPLITS
from hscc.pipeline.data.phantom.lesions import LESIONS
from hscc.pipeline.data.phantom.slices import COMMENT, draw_slice, encode

TRAIN, TEST = 70, 30  # images a class
views = st.sampled_from(VIEWS)
seeds = st.integers(0, 2**31)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "data"
    draw_dataset(root, train_per_class=TRAIN, test_per_class=TEST, size=96, seed=0, duplicates=0)
    return root


def contents(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def pixels(root: Path, split: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    files = [
        (path, label) for label in range(len(CLASSES)) for path in sorted((root / split / CLASSES[label]).iterdir())
    ]
    images = [np.asarray(Image.open(path).convert("L").resize((side, side))).ravel() / 255 for path, _ in files]
    return np.stack(images), np.array([label for _, label in files])


def tumour(label: str, view: str, seed: int):
    rng = np.random.default_rng(seed)
    head = draw_head(rng, view, (96, 96))
    masks = [layer.alpha for layer in LESIONS[label](rng, head) if layer.tissue == "tumour"]
    return head, masks[0] > 0.3


def test_layout_is_that_of_the_data_set(root: Path):
    counts = {(s, c): len(list((root / s / c).glob("*.jpg"))) for s in OFFICIAL_SPLITS for c in CLASSES}
    assert counts == {(s, c): TRAIN if s == "Training" else TEST for s in OFFICIAL_SPLITS for c in CLASSES}
    assert len(contents(root)) == sum(counts.values())


def test_images_vary_in_size_and_say_that_they_are_drawn(root: Path):
    images = [Image.open(path) for path in root.rglob("*.jpg")]
    assert {(image.format, image.mode) for image in images} == {("JPEG", "RGB")}
    assert {image.info["comment"] for image in images} == {COMMENT}
    assert len({image.size for image in images}) > len(images) / 4
    assert all(64 <= side <= 128 for image in images for side in image.size)


def test_same_seed_draws_the_same_bytes_and_more_images_change_none(root: Path, tmp_path: Path):
    draw_dataset(tmp_path / "few", train_per_class=2, test_per_class=1, size=96, seed=0, duplicates=0)
    few, many = contents(tmp_path / "few"), contents(root)
    assert len(few) == 12
    assert few.items() <= many.items()


def test_other_seed_draws_other_images(tmp_path: Path):
    for seed in (0, 1):
        draw_dataset(tmp_path / str(seed), train_per_class=1, test_per_class=1, size=64, seed=seed, duplicates=0)
    assert not set(contents(tmp_path / "0").values()) & set(contents(tmp_path / "1").values())


def test_no_image_is_by_chance_a_near_copy_of_another(root: Path):
    thumbnails = np.stack([thumbnail(Image.open(path)) for path in sorted(root.rglob("*.jpg"))])
    assert len(thumbnails) == 4 * (TRAIN + TEST)
    assert len(correlated_pairs(thumbnails, 0.99)) == 0


def test_linear_model_does_not_solve_it(root: Path):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=300))
    train, test = pixels(root, "Training", 32), pixels(root, "Testing", 32)
    accuracy = model.fit(*train).score(*test)
    assert 0.25 < accuracy < 0.65


def test_brightness_alone_does_not_tell_the_classes(root: Path):
    images, labels = pixels(root, "Training", 32)
    means = np.stack([images[labels == label].mean(1) for label in range(len(CLASSES))])
    assert np.ptp(means.mean(1)) < means.std(1).min()


@settings(max_examples=25, deadline=None)
@given(view=views, seed=seeds)
def test_glioma_lies_inside_the_brain(view: str, seed: int):
    head, mask = tumour("glioma_tumor", view, seed)
    assert mask.sum() >= 10
    assert head.brain[mask].max() < 0.02


@settings(max_examples=25, deadline=None)
@given(view=views, seed=seeds)
def test_meningioma_touches_the_skull_or_the_falx(view: str, seed: int):
    head, mask = tumour("meningioma_tumor", view, seed)
    assert mask.sum() >= 10
    assert head.brain[mask].max() > -0.05 or np.abs(head.x[mask]).min() < 0.05


@settings(max_examples=25, deadline=None)
@given(view=st.sampled_from(VIEWS[1:]), seed=seeds)
def test_pituitary_tumour_sits_on_the_sella(view: str, seed: int):
    head, mask = tumour("pituitary_tumor", view, seed)
    x, y = head.x[mask], head.y[mask]
    assert np.hypot(x - head.sella[0], y - head.sella[1]).min() < 0.06
    assert abs(x.mean() - head.sella[0]) < 0.08


@settings(max_examples=20, deadline=None)
@given(label=st.sampled_from(CLASSES), seed=seeds, size=st.integers(32, 200))
def test_any_slice_is_a_picture(label: str, seed: int, size: int):
    image = draw_slice(label, np.random.default_rng(seed), size)
    assert image.dtype == np.uint8
    assert image.ndim == 2
    assert image.std() > 8
    assert Image.open(io.BytesIO(encode(image))).size == image.shape[::-1]


def test_planted_copies_are_what_they_are_said_to_be(tmp_path: Path):
    root = tmp_path / "data"
    planted = draw_dataset(root, train_per_class=2, test_per_class=1, size=96, seed=3, duplicates=8)
    assert len(contents(root)) == 12 + 8
    kinds = []
    for copy, original in planted:
        assert original.startswith("Training/")
        same = (root / copy).read_bytes() == (root / original).read_bytes()
        split, label, _ = copy.split("/")
        kinds.append((same, split, label == original.split("/")[1]))
        if not same:
            thumbnails = np.stack([thumbnail(Image.open(root / path)) for path in (copy, original)])
            assert len(correlated_pairs(thumbnails, 0.99)) == 1
    expected = [(True, "Training", True), (True, "Testing", True), (False, "Training", True), (True, "Training", False)]
    assert sorted(kinds) == sorted(2 * expected)


def test_drawing_again_changes_nothing_and_other_files_are_refused(tmp_path: Path):
    def draw(seed: int) -> None:
        draw_dataset(tmp_path / "data", train_per_class=1, test_per_class=1, size=64, seed=seed, duplicates=1)

    draw(0)
    before = contents(tmp_path / "data")
    draw(0)
    assert contents(tmp_path / "data") == before
    with pytest.raises(DataError, match="already holds other files"):
        draw(1)
    assert contents(tmp_path / "data") == before
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(("name", "value"), [("train_per_class", 0), ("size", 31), ("seed", -1), ("duplicates", 5)])
def test_impossible_numbers_are_named(tmp_path: Path, name: str, value: int):
    numbers = {"train_per_class": 1, "test_per_class": 1, "size": 64, "seed": 0, "duplicates": 0, name: value}
    with pytest.raises(DataError, match=f"^{name} of the phantom is {value}"):
        draw_dataset(tmp_path / "data", **numbers)
    assert not (tmp_path / "data").exists()
