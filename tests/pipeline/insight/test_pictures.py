from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hscc.pipeline.insight.class_activation import LEAST, MEDIAN, Answers, cam_pictures, examples
from hscc.pipeline.insight.pictures import SIDE, cells_over, glow_over, mean_image, plain, side_by_side, write_png

GREY = np.tile(np.linspace(0, 250, 40, dtype=np.uint8), (40, 1))


def test_the_mean_runs_from_black_to_white() -> None:
    images = np.stack([GREY // 4 + 40, GREY // 2 + 40, np.full_like(GREY, 255)])
    mean = mean_image(images, np.array([0, 1]))
    assert (mean.min(), mean.max()) == (0, 255)
    assert np.all(np.diff(mean[0].astype(int)) >= 0)


def test_more_rank_is_brighter_and_the_image_shows_through() -> None:
    region = np.array([[0, 1], [2, 2]])
    values = np.array([[0.1, 0.9], [0.5, 0.5]])
    drawn = np.asarray(cells_over(GREY, values, region, ("", "", ""), 0.9), dtype=int)
    assert drawn.shape == (SIDE, SIDE, 3)
    low, high = drawn[20, 100].sum(), drawn[20, 130].sum()
    assert high > 1.5 * low
    assert drawn[200, 220].sum() > drawn[200, 5].sum()
    assert drawn[50, SIDE // 2].tolist() == [255, 255, 255]  # a border between regions
    assert drawn[200, SIDE // 2].tolist() != [255, 255, 255]  # none inside one


def test_texts_stand_inside_their_region() -> None:
    region = np.array([[0, 0, 1], [1, 1, 1], [1, 1, 1]])
    blank, written = (
        np.asarray(cells_over(GREY, np.zeros((3, 3)), region, texts, 1.0), dtype=int)
        for texts in (("", ""), ("12", "34"))
    )
    changed = np.argwhere(np.abs(blank - written).sum(2))
    first = changed[changed[:, 0] < SIDE // 3]
    assert len(first) and first[:, 1].max() < 2 * SIDE // 3
    assert len(first) < len(changed)


def test_only_what_speaks_for_the_class_glows() -> None:
    heat = np.array([[-1.0, -1.0], [-1.0, 1.0]])
    drawn = np.asarray(glow_over(np.full((60, 60), 100, dtype=np.uint8), heat), dtype=int)
    assert drawn.shape == (60, 60, 3)
    assert np.ptp(drawn[5, 5]) < 5  # grey
    assert drawn[55, 55, 0] > drawn[55, 55, 2] + 100  # warm
    flat = np.asarray(glow_over(GREY, np.zeros((3, 3))), dtype=int)
    assert np.ptp(flat, axis=2).max() == 0


def test_files_are_small_and_opened_again(tmp_path: Path) -> None:
    picture = side_by_side([plain(GREY), plain(GREY)], ("slice", "dense"), 100)
    write_png(picture, tmp_path / "two.png")
    with Image.open(tmp_path / "two.png") as read:
        assert (read.mode, read.size) == ("P", (204, 100))
    assert (tmp_path / "two.png").stat().st_size < 20_000


def test_each_class_shows_its_median_and_its_least_similar_image() -> None:
    similarity = np.array([0.9, 0.2, 0.5, np.nan, 0.7])
    assert examples(similarity, np.array([0, 0, 0, 0, 1])) == [(2, MEDIAN), (1, LEAST), (4, MEDIAN)]


def test_rows_of_maps_name_their_pictures() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 4, 4))
    answers = Answers("x.png", label="a", dense="a", small="b")
    (row,), pictures = cam_pictures("small", [GREY], [(2, MEDIAN)], maps, -maps, [answers])
    assert (row.network, row.path, row.similarity, row.example) == ("small", "x.png", -1.0, MEDIAN)
    assert list(pictures) == [row.picture] == ["cam-small-1.png"]
