"""The deployed preprocessing is the repository's own, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from hscc.errors import ExportError
from hscc.export.preprocessing import PillowResize, Preprocess, Preprocessing
from hscc.pipeline.data.images import load_images
from hscc.training.images import to_input
from tests.export.conftest import as_batch

# The last four are tall by Pillow's rule and are resized in height first, which shows in the bytes.
SHAPES = [
    (1, 1), (3, 50), (24, 24), (24, 61), (61, 24), (23, 25), (48, 48), (100, 101), (333, 500),
    (60, 20), (60, 30), (400, 90), (26, 23),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [24, 7, (20, 31), (40, 9)], ids=str)
def test_resize_gives_pillows_bytes(shape: tuple[int, int], size: int | tuple[int, int]) -> None:
    levels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    height, width = (size, size) if isinstance(size, int) else size
    expected = np.asarray(Image.fromarray(levels).resize((width, height), Image.Resampling.BILINEAR))
    (found,) = PillowResize(size)(torch.from_numpy(levels)[None])
    np.testing.assert_array_equal(found, expected)


def test_every_colour_becomes_pillows_grey() -> None:
    steps = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)[: 364**2].reshape(364, 364, 3)
    preprocessing = Preprocessing(364)  # no resizing: the grey levels come through as they are
    found = Preprocess(preprocessing)(torch.from_numpy(colours)[None])
    assert torch.equal(found, to_input(np.asarray(Image.fromarray(colours).convert("L"))[None]))


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_files_give_the_input_that_training_saw(mode: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (70, 33, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.png")
    manifest = pd.DataFrame({"path": ["a.png"], "sha256": ["0"]})
    trained_on = to_input(load_images(manifest, tmp_path, (24, 24), tmp_path))
    preprocessing = Preprocessing(24)
    with Image.open(tmp_path / "a.png") as image:
        picture = np.array(image)
    assert torch.equal(preprocessing.prepare(picture), trained_on)
    assert torch.equal(Preprocess(preprocessing)(torch.from_numpy(as_batch(picture))), trained_on)


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_alpha_is_ignored_and_grey_fills_all_channels(grey: bool, channels: int) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (31, 40, channels), dtype=np.uint8)
    preprocessing = Preprocessing(24, grey=grey)
    found = Preprocess(preprocessing)(torch.from_numpy(picture[None]))
    assert torch.equal(found, preprocessing.prepare(picture))
    opaque = picture.copy()
    if channels in (2, 4):
        opaque[..., -1] = 255
    assert torch.equal(Preprocess(preprocessing)(torch.from_numpy(opaque[None])), found)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_network_of_one_channel_gets_one_grey_level(channels: int) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (31, 40, channels), dtype=np.uint8)
    preprocessing = Preprocessing((20, 28), mean=(0.5,), std=(0.25,))
    found = Preprocess(preprocessing)(torch.from_numpy(picture[None]))
    assert found.shape == (1, *preprocessing.input_shape) == (1, 1, 20, 28)
    assert torch.equal(found, preprocessing.prepare(picture))


def test_the_description_follows_the_numbers() -> None:
    words = Preprocessing(64, mean=(0.5, 0.25, 0.1)).describe()
    assert "64 x 64" in words
    assert "(0.5, 0.25, 0.1)" in words
    assert "19595" in words
    assert "19595" not in Preprocessing(64, grey=False).describe()


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": (8, 0)},
        {"std": (1.0, 1.0, 0.0)},
        {"mean": (0.5,)},
        {"grey": False, "mean": (0.5,), "std": (0.5,)},
    ],
)
def test_impossible_numbers_are_refused(wrong: dict) -> None:
    with pytest.raises(ExportError, match=next(iter(wrong))):
        Preprocessing(**wrong)
