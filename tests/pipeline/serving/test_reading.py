from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image, ImageFilter

from hscc.errors import DataError
from hscc.pipeline.data_spec import Plausible
from hscc.pipeline.serving.plausibility import refuse_implausible
from hscc.pipeline.serving.reading import Picture, decode_picture, read_picture
from tests.pipeline.pictures import dicom, encoded
from tests.pipeline.registered import head
from tests.pipeline.specs import BRAIN


def refusal(picture: Picture, limits: Plausible | None = BRAIN.plausible) -> str:
    """Why a picture is refused; empty where it is not."""
    try:
        refuse_implausible(picture, limits, BRAIN.texts.subject)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_a_png_is_read_as_its_grey_levels(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "slice.png"
    path.write_bytes(encoded(Image.fromarray(head()).convert(mode)))
    picture = read_picture(path)
    assert np.abs(picture.grey.astype(int) - head()).max() <= 1
    assert picture.colour == 0.0


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_is_read_as_its_grey_levels_nearly(mode: str, tmp_path: Path) -> None:
    smooth = Image.fromarray(head()).filter(ImageFilter.GaussianBlur(3))
    path = tmp_path / "slice.jpg"
    path.write_bytes(encoded(smooth.convert(mode), "JPEG"))
    picture = read_picture(path)
    assert picture.grey.shape == (96, 96)
    assert np.abs(picture.grey.astype(int) - np.asarray(smooth)).mean() < 3
    assert picture.colour < 1.0
    assert refusal(picture) == ""


def test_half_a_jpeg_is_refused() -> None:
    whole = encoded(Image.fromarray(head()), "JPEG")
    with pytest.raises(DataError, match=r"^slice is not a JPEG, PNG or DICOM picture, or is damaged"):
        decode_picture(whole[: len(whole) // 2], "slice")


def test_a_photograph_is_known_by_its_colours() -> None:
    photograph = Image.merge("RGB", [Image.fromarray(head() // part) for part in (1, 2, 3)])
    picture = decode_picture(encoded(photograph, "JPEG"), "photograph")
    assert "in colour" in refusal(picture)


def test_sixteen_bits_are_spread_over_the_levels() -> None:
    wide = Image.fromarray(head().astype(np.uint16) * 16)
    picture = decode_picture(encoded(wide), "wide")
    assert (picture.grey.min(), picture.grey.max()) == (0, 255)
    assert np.corrcoef(picture.grey.ravel(), head().ravel())[0, 1] > 0.99


def test_a_dicom_slice_is_read_through_its_window() -> None:
    pixels = head().astype(np.uint16) * 10
    picture = decode_picture(dicom(pixels), "slice")
    assert np.corrcoef(picture.grey.ravel(), head().ravel())[0, 1] > 0.99
    windowed = decode_picture(dicom(pixels, WindowCenter=50, WindowWidth=100), "slice")
    assert (windowed.grey[head() > 50] == 255).all()
    inverted = decode_picture(dicom(pixels, PhotometricInterpretation="MONOCHROME1"), "slice")
    assert inverted.grey[0, 0] > 200


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"Modality": "CT"}, "of modality CT"),
        ({"BodyPartExamined": "KNEE"}, "body part KNEE"),
        ({"NumberOfFrames": 3}, "cannot be decoded"),
        ({"PixelData": b"\0\0"}, "cannot be decoded"),
    ],
)
def test_another_examination_is_refused(elements: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        refuse_implausible(decode_picture(dicom(head(), **elements), "slice"), BRAIN.plausible, "slice")


@pytest.mark.parametrize("content", [b"", b"hello", encoded(Image.fromarray(head()))[:300], b"\0" * 128 + b"DICM"])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^slice is"):
        decode_picture(content, "slice")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png cannot be read"):
        read_picture(tmp_path / "none.png")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(DataError, match=r"bomb (has 20000|is not a JPEG)"):
        decode_picture(encoded(Image.new("1", (20_000, 20_000))), "bomb")


@pytest.mark.parametrize(
    ("grey", "colour", "words"),
    [
        (head(side=32), 0.0, "32 x 32 pixels"),
        (head()[:40], 0.0, "sides of 64"),
        (np.repeat(head(), 3, axis=1), 0.0, "longer than 2 times"),
        (head(), 40.0, "in colour"),
        (np.full((96, 96), 20, dtype=np.uint8), 0.0, "nearly uniform"),
        (255 - head(), 0.0, "no dark background"),
    ],
)
def test_what_is_plainly_no_slice_is_refused(grey: Any, colour: float, words: str) -> None:
    found = refusal(Picture("it", grey, colour))
    assert found.startswith("it does not look like a brain MRI slice: ") and words in found


def test_a_head_in_dark_air_passes() -> None:
    assert refusal(Picture("it", head(side=200), 0.0)) == ""


def test_sides_that_validation_allows_are_served() -> None:
    allowed = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["validate"]
    assert BRAIN.plausible is not None
    assert BRAIN.plausible.sides == (allowed["min_side"], allowed["max_side"])


def test_without_limits_any_picture_is_taken() -> None:
    assert refusal(Picture("it", 255 - head(), 40.0), None) == ""
    assert BRAIN.plausible is not None
    open_ones = {name: None for name in ("max_oblong", "max_colour", "min_contrast", "min_dark_border", "max_corner")}
    anything = BRAIN.plausible.model_copy(update={**open_ones, "modalities": (), "body_parts": ()})
    assert refusal(Picture("it", 255 - head(), 40.0, "CT", "KNEE"), anything) == ""


def test_colours_are_kept() -> None:
    photograph = Image.merge("RGB", [Image.fromarray(head() // part) for part in (1, 2, 3)])
    picture = decode_picture(encoded(photograph), "photograph")
    assert picture.pixels.shape == (96, 96, 3)
    assert np.array_equal(picture.pixels, np.asarray(photograph))
    assert np.array_equal(picture.grey, np.asarray(photograph.convert("L")))
