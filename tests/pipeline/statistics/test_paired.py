from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from hscc.pipeline.statistics.bootstrap import Resampled, bootstrap_weights
from hscc.pipeline.statistics.comparisons import mcnemar

BOOLS = arrays(np.bool_, 30)


def test_mcnemar_of_a_case_computed_by_hand() -> None:
    first = np.array([True] * 8 + [False] * 1 + [True] * 20)
    second = np.array([False] * 8 + [True] * 1 + [True] * 20)
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 9) / 2**9)  # 9 discordant images, 1 against 8


@given(BOOLS, BOOLS)
def test_mcnemar_is_a_symmetric_probability(first: np.ndarray, second: np.ndarray) -> None:
    assert mcnemar(first, second) == mcnemar(second, first)
    assert 0 < mcnemar(first, second) <= 1


@given(BOOLS, BOOLS)
def test_a_group_has_one_vote_however_many_images_it_has(first: np.ndarray, second: np.ndarray) -> None:
    each = np.arange(len(first))
    assert mcnemar(first, second, each) == mcnemar(first, second)
    often = np.repeat(each, 7)
    assert mcnemar(first[often], second[often], often) == mcnemar(first, second)
    assert mcnemar(first, second, np.zeros(len(first), dtype=np.int64)) == 1.0


@given(BOOLS)
def test_mcnemar_finds_nothing_between_equals(correct: np.ndarray) -> None:
    assert mcnemar(correct, correct) == 1.0


def test_pairing_removes_what_both_networks_share() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(300) < 0.8
    second = first.copy()
    second[:6] = ~second[:6]
    weights = bootstrap_weights(np.arange(300), 2000, 0)
    a, b = Resampled.mean(first, weights), Resampled.mean(second, weights)
    found = (a - b).estimate()
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.se < a.estimate().se / 2
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(("gap", "covered"), [(0.0, True), (0.5, False)])
def test_the_interval_covers_zero_when_the_networks_are_alike(gap: float, covered: bool) -> None:
    first = Resampled(0.5, np.random.default_rng(0).normal(0.5, 0.01, 500))
    second = Resampled(0.5 - gap, np.random.default_rng(1).normal(0.5 - gap, 0.01, 500))
    assert (first - second).estimate().covers_zero is covered
