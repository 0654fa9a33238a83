"""Values become levels by a stated window, the file's own or their percentiles; volumes are resized without aliases."""

from __future__ import annotations

from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from hscc.errors import DataError
from hscc.pipeline.data.formats.base import Image
from hscc.pipeline.data.formats.known import format_of
from hscc.pipeline.data.formats.levels import decode, resize_volume, to_levels

VOLUME = np.random.default_rng(0).integers(0, 256, (12, 8, 10), dtype=np.uint8)


@given(arrays.arrays(np.int16, (4, 5)), st.integers(-2000, 2000), st.integers(1, 3000))
def test_levels_rise_with_the_values_and_end_at_the_window(values: np.ndarray, low: int, width: int) -> None:
    levels = to_levels(Image(values, "int16"), (low, low + width))
    order = np.argsort(values, axis=None)
    assert (np.diff(levels.ravel()[order].astype(int)) >= 0).all()
    assert (levels[values <= low] == 0).all() and (levels[values >= low + width] == 255).all()
    np.testing.assert_array_equal(to_levels(Image(values, "int16", inverted=True), (low, low + width)), 255 - levels)


def test_levels_of_8_bits_stay_and_16_bits_without_a_window_are_spread() -> None:
    assert to_levels(Image(VOLUME, "uint8")) is VOLUME
    assert to_levels(Image(VOLUME, "uint8"), (-160, 240)) is VOLUME
    deep = to_levels(Image(VOLUME.astype(np.uint16) * 100, "uint16"))
    assert (deep.min(), deep.max()) == (0, 255)


def test_a_volume_keeps_its_size_or_its_mean() -> None:
    assert resize_volume(VOLUME, (12, 8, 10)) is VOLUME
    small = resize_volume(VOLUME, (6, 4, 5))
    assert small.shape == (6, 4, 5)
    assert abs(float(small.mean()) - float(VOLUME.mean())) < 2
    flat = np.full((9, 9, 9), 77, dtype=np.uint8)
    assert (resize_volume(flat, (16, 4, 12)) == 77).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_axis_of_a_volume_is_resized_by_its_own_side(axis: int) -> None:
    ramp = np.moveaxis(np.broadcast_to(np.arange(16, dtype=np.uint8) * 10, (16, 16, 16)), 2, axis)
    sides = [16, 16, 16]
    sides[axis] = 8
    found = np.moveaxis(resize_volume(ramp, tuple(sides)), axis, 2)
    assert (np.diff(found[:, :, 1:-1].astype(int), axis=2) == 20).all() and (found == found[:1, :1]).all()


def test_a_picture_among_volumes_and_nan_are_named() -> None:
    with pytest.raises(DataError, match=r"a\.png has 2 dimensions where data\.image_size has 3 sides"):
        decode(Image(VOLUME[0], "L"), (16, 16, 16), 1, None, "a.png")
    with pytest.raises(DataError, match="b holds NaN or infinite values"):
        decode(Image(np.full((4, 4, 4), np.inf), "float64"), (16, 16, 16), 1, None, "b")


def test_a_16_bit_picture_is_decoded_through_the_window(tmp_path: Path) -> None:
    values = np.linspace(1000, 3000, 20 * 20).astype(np.uint16).reshape(20, 20)
    Pillow.fromarray(values).save(tmp_path / "a.png")
    read = format_of(tmp_path / "a.png").read(tmp_path / "a.png")
    np.testing.assert_array_equal(read.values, values)
    levels = decode(read, (20, 20), 1, (1000, 3000), "a.png")
    np.testing.assert_array_equal(levels, np.round((values.astype(float) - 1000) / 2000 * 255))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_pictures_are_decoded_as_pillow_does(tmp_path: Path, mode: str, channels: int) -> None:
    picture = Pillow.fromarray(np.random.default_rng(1).integers(0, 256, (30, 50, 3), dtype=np.uint8)).convert(mode)
    picture.save(tmp_path / "a.jpg", quality=60)
    expected = Pillow.open(tmp_path / "a.jpg").convert("RGB" if channels == 3 else "L").resize((24, 20), 2)
    found = decode(format_of(tmp_path / "a.jpg").read(tmp_path / "a.jpg"), (20, 24), channels, None, "a.jpg")
    np.testing.assert_array_equal(found, np.asarray(expected))
