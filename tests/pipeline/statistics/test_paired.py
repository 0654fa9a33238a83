from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from hscc.pipeline.statistics.comparisons import mcnemar, paired_difference
from hscc.pipeline.statistics.scores import resample, resampled_mean, standard_error

BOOLS = arrays(np.bool_, 30)


def test_mcnemar_of_a_case_computed_by_hand() -> None:
    first = np.array([True] * 8 + [False] * 1 + [True] * 20)
    second = np.array([False] * 8 + [True] * 1 + [True] * 20)
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 9) / 2**9)  # 9 discordant images, 1 against 8


@given(BOOLS, BOOLS)
def test_mcnemar_is_a_symmetric_probability(first: np.ndarray, second: np.ndarray) -> None:
    assert mcnemar(first, second) == mcnemar(second, first)
    assert 0 < mcnemar(first, second) <= 1


@given(BOOLS)
def test_mcnemar_finds_nothing_between_equals(correct: np.ndarray) -> None:
    assert mcnemar(correct, correct) == 1.0


def test_pairing_removes_what_both_networks_share() -> None:
    rng = np.random.default_rng(0)
    first = rng.random(300) < 0.8
    second = first.copy()
    second[:6] = ~second[:6]
    weights = resample(np.arange(300), 2000, 0)
    draws = resampled_mean(first, weights), resampled_mean(second, weights)
    found = paired_difference(first.mean(), second.mean(), *draws)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert found.se < standard_error(draws[0]) / 2
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize(("gap", "covered"), [(0.0, True), (0.5, False)])
def test_the_interval_covers_zero_when_the_networks_are_alike(gap: float, covered: bool) -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.01, 500), np.random.default_rng(1).normal(0.5 - gap, 0.01, 500)
    found = paired_difference(0.5, 0.5 - gap, *draws)
    assert (found.low <= 0 <= found.high) is covered
