from __future__ import annotations

import numpy as np
import pytest

from hscc.pipeline.insight.changed_answers import count_flips, find_flips


def test_flips_are_sorted_by_kind_and_by_how_much_the_probabilities_changed() -> None:
    labels = np.array([0, 0, 0, 1, 2])
    dense = np.array([[2.0, 1, 0], [5, 0, 0], [0, 3, 0], [3, 0, 0], [0, 1, 0]])
    small = np.array([[1.0, 2, 0], [0, 5, 0], [4, 0, 0], [3, 0, 0], [1, 0, 0]])
    flips = find_flips(labels, dense, small)
    assert [(flip.image, flip.kind) for flip in flips] == [(1, "lost"), (0, "lost"), (2, "gained"), (4, "other")]
    assert flips[0].dense.sum() == pytest.approx(1.0)
    assert flips[0].small.tolist() == pytest.approx((np.exp([0, 5, 0]) / np.exp([0.0, 5, 0]).sum()).tolist())
    counted = count_flips("small", 5, flips)
    assert (counted.images, counted.flips, counted.lost, counted.gained, counted.other) == (5, 4, 2, 1, 1)


def test_networks_that_agree_have_no_flips() -> None:
    logits = np.random.default_rng(0).normal(size=(9, 4))
    assert find_flips(np.zeros(9, dtype=np.int64), logits, 2 * logits) == []
