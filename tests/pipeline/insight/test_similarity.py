from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hscc.pipeline.insight.similarity import by_class, overlap, pearson, spearman, top_quarter


def maps(count: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 4, 4))


def test_correlations_are_those_of_scipy() -> None:
    first, second = maps(), maps(seed=1)
    for one, other, linear, ranked in zip(first, second, pearson(first, second), spearman(first, second), strict=True):
        assert linear == pytest.approx(stats.pearsonr(one.ravel(), other.ravel())[0])
        assert ranked == pytest.approx(stats.spearmanr(one.ravel(), other.ravel())[0])


def test_a_constant_map_has_no_correlation() -> None:
    first = maps(2)
    first[1] = 3.0
    assert np.isnan(pearson(first, maps(2))).tolist() == [False, True]


def test_overlap_counts_the_top_quarter() -> None:
    one = np.arange(16.0).reshape(1, 4, 4)
    assert top_quarter(one)[0].tolist() == [[False] * 4] * 3 + [[True] * 4]
    assert overlap(one, 2 * one).item() == 1.0
    assert overlap(one, -one).item() == 0.0
    half = one.copy()
    half[0, 0, :2] = 100.0
    assert overlap(one, half).item() == pytest.approx(2 / 6)


def test_classes_are_averaged_with_their_errors() -> None:
    first = maps(40)
    second = first + 0.3 * maps(40, 1)
    second[0] = 1.0  # no correlation
    labels = np.repeat([0, 2], 20)
    rows = by_class("small", first, second, labels, np.arange(40), ("a", "b", "c"), 500, 0)
    assert [(row.label, row.n) for row in rows] == [("a", 19), ("c", 20)]
    own = pearson(first, second)[20:]
    assert rows[1].mean == pytest.approx(own.mean())
    assert rows[1].se == pytest.approx(own.std(ddof=1) / np.sqrt(20), rel=0.15)
    assert abs(rows[1].chance or 0) < 0.25 < rows[1].mean
    assert all(row.spearman_se and row.iou_se for row in rows)


def test_chance_never_compares_near_copies() -> None:
    first = np.repeat(maps(2), 2, axis=0)
    (row,) = by_class("small", first, first, np.zeros(4, int), np.array([0, 0, 1, 1]), ("a",), 100, 0)
    assert row.chance == pytest.approx(pearson(first[:1], first[2:3]).item())
    (alone,) = by_class("small", first, first, np.zeros(4, int), np.zeros(4, int), ("a",), 100, 0)
    assert alone.chance is None
