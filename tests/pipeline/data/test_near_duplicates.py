from __future__ import annotations

import io

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hscc.pipeline.data import near_duplicates
from hscc.pipeline.data.near_duplicates import (
    conflicting,
    correlated_pairs,
    near_duplicate_groups,
    standardise,
    thumbnail,
)


def picture(seed: int, side: int = 96) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def reencoded(image: Image.Image, side: int, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.resize((side, side)).save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def test_a_resized_and_reencoded_copy_joins_its_original():
    first, other = picture(0), picture(1)
    thumbnails = np.stack(
        [thumbnail(image) for image in (first, other, reencoded(first, 60, 70), other.convert("RGB"))]
    )
    assert near_duplicate_groups(thumbnails, ["a", "b", "c", "d"], 0.99).tolist() == [0, 1, 0, 1]


def test_brightness_and_contrast_do_not_matter_but_inversion_does():
    values = np.random.default_rng(0).integers(0, 120, 256, dtype=np.uint8)
    thumbnails = np.stack([values, values + 100, values * 2, 255 - values])
    assert near_duplicate_groups(thumbnails, list("abcd"), 0.99).tolist() == [0, 0, 0, 1]


def test_constant_images_are_no_copies_unless_their_bytes_are():
    thumbnails = np.stack([np.full(256, value, dtype=np.uint8) for value in (0, 0, 255, 0)])
    assert not standardise(thumbnails).any()
    assert near_duplicate_groups(thumbnails, ["a", "b", "c", "a"], 0.5).tolist() == [0, 1, 2, 0]


def test_near_copies_of_near_copies_belong_together():
    # unit vectors 40 degrees apart: neighbours correlate (0.77), the ends do not (0.17)
    plane = np.linalg.qr(np.random.default_rng(0).normal(size=(256, 2)))[0]
    angles = np.deg2rad([0, 40, 80])
    waves = np.cos(angles)[:, None] * plane[:, 0] + np.sin(angles)[:, None] * plane[:, 1]
    waves -= waves.mean(axis=1, keepdims=True)
    thumbnails = np.round(127 + 400 * waves).clip(0, 255).astype(np.uint8)
    correlation = standardise(thumbnails) @ standardise(thumbnails).T
    assert correlation[0, 2] < 0.7 < min(correlation[0, 1], correlation[1, 2])
    assert near_duplicate_groups(thumbnails, list("abc"), 0.7).tolist() == [0, 0, 0]
    assert correlated_pairs(thumbnails, 0.7).tolist() == [[0, 1], [1, 2]]


def test_no_image_makes_no_group():
    assert near_duplicate_groups(np.empty((0, 256), dtype=np.uint8), [], 0.99).shape == (0,)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 25), block=st.integers(1, 7))
def test_groups_are_the_components_of_the_full_matrix(seed: int, count: int, block: int):
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, 256, (4, 256))
    noisy = centres[rng.integers(0, 4, count)] + rng.normal(0, 25, (count, 256))
    thumbnails = noisy.clip(0, 255).astype(np.uint8)
    digests = [str(digit) for digit in rng.integers(0, 30, count)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates, "_BLOCK", block)
        groups = near_duplicate_groups(thumbnails, digests, 0.85)
    alike = (np.corrcoef(thumbnails.astype(float)) > 0.85) | (np.array(digests)[:, None] == np.array(digests))
    components = sorted(nx.connected_components(nx.from_numpy_array(np.atleast_2d(alike))), key=min)
    expected = {row: number for number, component in enumerate(components) for row in component}
    assert groups.tolist() == [expected[row] for row in range(count)]


def test_conflict_marks_every_image_of_a_group_with_two_labels():
    groups = np.array([0, 1, 0, 2, 2, 0])
    labels = ["glioma_tumor", "no_tumor", "meningioma_tumor", "no_tumor", "no_tumor", "glioma_tumor"]
    assert conflicting(groups, labels).tolist() == [True, False, True, False, False, True]
