from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hscc.pipeline.statistics.results import pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


def dominates(first: tuple[int, int], second: tuple[int, int]) -> bool:
    return first[0] >= second[0] and first[1] >= second[1] and first != second


@given(POINTS)
def test_front_is_exactly_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    front = pareto_front(*zip(*points, strict=True))
    assert front.tolist() == [not any(dominates(other, point) for other in points) for point in points]
    assert front.any()


def test_front_of_a_trade_off() -> None:
    np.testing.assert_array_equal(pareto_front([1, 3, 3, 6], [0.9, 0.91, 0.8, 0.7]), [False, True, False, True])
