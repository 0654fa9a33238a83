"""Distances of outlines, against what drawn shapes have by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hscc.training.surface_distance import surface_distance

MAPS = hnp.arrays(np.int64, (9, 7), elements=st.integers(0, 2))


def column(place: int) -> np.ndarray:
    drawn = np.zeros((10, 20), dtype=np.int64)
    drawn[:, place] = 1
    return drawn


@given(MAPS, MAPS)
def test_it_is_a_symmetric_distance(one: np.ndarray, other: np.ndarray) -> None:
    forth, back = surface_distance(one, other, 3), surface_distance(other, one, 3)
    assert forth == pytest.approx(back)
    assert 0 <= forth <= np.hypot(9, 7)
    assert surface_distance(one, one, 3) == 0


def test_lines_are_as_far_apart_as_they_are() -> None:
    assert surface_distance(column(4), column(9), 2) == pytest.approx(5)


def test_a_class_that_is_missed_is_as_far_as_can_be_and_one_that_is_not_there_does_not_count() -> None:
    nothing = np.zeros((10, 20), dtype=np.int64)
    assert surface_distance(nothing, column(4), 2) == pytest.approx(np.hypot(10, 20))
    assert surface_distance(nothing, nothing, 2) == 0


def test_pixels_that_do_not_count_are_of_neither() -> None:
    truth, found = column(4), column(4)
    found[:, 15:] = 1
    truth[:, 12:] = -1
    assert surface_distance(found, truth, 2) == 0
