from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hscc.pipeline.statistics.comparisons import holm

P_VALUES = st.lists(st.floats(0, 1), max_size=12)


def rejected(p_values: list[float], level: float) -> set[int]:
    """Holm's procedure as he states it: step down from the smallest, stop at the first that is too large."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    found = set()
    for step, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - step):
            break
        found.add(index)
    return found


def test_a_case_computed_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P_VALUES, st.floats(0.001, 0.5))
def test_what_falls_below_a_level_is_what_the_procedure_rejects(p_values: list[float], level: float) -> None:
    adjusted = holm(p_values)
    clear = [index for index, value in enumerate(adjusted) if not np.isclose(value, level, rtol=1e-9)]
    stepped = rejected(p_values, level)
    assert {index for index in clear if adjusted[index] < level} == {index for index in clear if index in stepped}


@given(P_VALUES)
def test_no_value_shrinks_nor_passes_bonferroni_s_and_order_stays(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for value, found in zip(p_values, adjusted, strict=True):
        assert value <= found <= min(1.0, value * len(p_values)) + 1e-12
    for first, second in zip(np.argsort(p_values), np.argsort(p_values)[1:], strict=False):
        assert adjusted[first] <= adjusted[second]


def test_one_test_needs_no_correction() -> None:
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
