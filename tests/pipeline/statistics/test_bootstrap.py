from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hscc.pipeline.statistics.bootstrap import (
    Resampled,
    bootstrap_weights,
    interval,
    resample,
    resampled_mean,
    standard_error,
)


def test_a_figure_is_computed_with_weights_of_one_above_those_of_the_resamples() -> None:
    weights = bootstrap_weights(np.arange(6), 50, 0)
    np.testing.assert_array_equal(weights[0], 1.0)
    np.testing.assert_array_equal(weights[1:], resample(np.arange(6), 50, 0))
    found = Resampled.mean([1, 0, 1, 1, 0, 0], weights)
    assert (found.value, found.draws.shape) == (0.5, (50,))
    same = (found - found).estimate()
    assert (same.value, same.se, same.low, same.high) == (0.0, 0.0, 0.0, 0.0)


def test_what_is_undefined_is_none() -> None:
    found = Resampled(0.5, np.full(4, np.nan)).estimate()
    assert (found.value, found.se, found.low, found.high, found.covers_zero) == (0.5, None, None, None, True)


@given(st.integers(1, 40), st.integers(0, 100))
def test_single_images_are_drawn_as_many_times_as_there_are(images: int, seed: int) -> None:
    weights = resample(np.arange(images), 5, seed)
    assert weights.shape == (5, images)
    np.testing.assert_array_equal(weights.sum(axis=1), images)


def test_near_copies_are_drawn_together() -> None:
    weights = resample(np.array([7, 3, 7, 9, 3]), 50, 0)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 1], weights[:, 4])
    assert (weights[:, 0] != weights[:, 1]).any()


def test_the_seed_decides_the_draws() -> None:
    np.testing.assert_array_equal(resample(np.arange(9), 4, 1), resample(np.arange(9), 4, 1))
    assert (resample(np.arange(9), 4, 1) != resample(np.arange(9), 4, 2)).any()


def test_standard_error_of_accuracy_is_the_binomial_one() -> None:
    correct = np.arange(400) < 360
    error = standard_error(resampled_mean(correct, resample(np.arange(400), 4000, 0)))
    assert error == pytest.approx(np.sqrt(0.9 * 0.1 / 400), rel=0.06)


def test_copies_of_images_are_no_further_evidence() -> None:
    correct = np.repeat(np.arange(100) < 80, 4)
    together = standard_error(resampled_mean(correct, resample(np.repeat(np.arange(100), 4), 4000, 0)))
    apart = standard_error(resampled_mean(correct, resample(np.arange(400), 4000, 0)))
    assert together == pytest.approx(np.sqrt(0.8 * 0.2 / 100), rel=0.06)
    assert together == pytest.approx(2 * apart, rel=0.1)


def test_standard_error_leaves_undefined_resamples_out() -> None:
    assert standard_error(np.array([1.0, np.nan, 3.0])) == pytest.approx(np.sqrt(2))
    assert np.isnan(standard_error(np.array([np.nan, 2.0])))


def test_interval_holds_the_middle_of_the_draws() -> None:
    low, high = interval(np.linspace(0, 1, 1001))
    assert (low, high) == (pytest.approx(0.025), pytest.approx(0.975))


def test_interval_leaves_undefined_resamples_out() -> None:
    assert interval(np.array([np.nan, 1.0, 1.0])) == (1.0, 1.0)
    assert np.isnan(interval(np.array([np.nan]))).all()
