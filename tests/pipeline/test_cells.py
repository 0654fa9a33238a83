"""Cells are asked for by name."""

from __future__ import annotations

import pytest

from hscc.budgets.budget import Budget
from hscc.errors import ParamsError
from hscc.pipeline.cells import goal_of, parse_cell


@pytest.mark.parametrize(
    ("name", "method", "budget"),
    [
        ("hscc", "hscc", Budget(macs=6)),
        ("hscc_timed", "hscc", Budget(latency=6)),
        ("global_svd_adaptive_fast", "global_svd_adaptive", Budget(macs=6, latency=4.5)),
    ],
)
def test_a_suffix_says_what_the_ratio_is_of(name: str, method: str, budget: Budget) -> None:
    goal = goal_of(name, 6)
    assert (goal.method, goal.budget, goal.timed) == (method, budget, budget.latency is not None)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ParamsError, match="method 'hsc_timed' is unknown; choose one of"):
        goal_of("hsc_timed", 6)


def test_a_cell_is_a_method_and_a_ratio() -> None:
    assert parse_cell("hscc_fast-2.5") == ("hscc_fast", 2.5)


@pytest.mark.parametrize("cell", ["hscc_timed", "hscc_timed-1", "hscc_timed-x", "-5", ""])
def test_a_malformed_cell_is_refused(cell: str) -> None:
    with pytest.raises(ParamsError, match="such as hscc_timed-5"):
        parse_cell(cell)
