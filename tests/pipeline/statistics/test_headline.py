from __future__ import annotations

from typing import Any

import pytest

from hscc.pipeline.statistics.results import headline, signed
from tests.pipeline.rows import results, row, timing


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"difference": (-0.012, -0.03, 0.006)},
            ["6.0 times fewer MACs", "90.0 ± 3.0 %", "−1.2 ± 1.0", "noise", "100"],
        ),
        ({"speedups": {1: 2.1}}, ["2.1 times faster"]),
        ({"difference": (-0.012, -0.03, -0.001)}, ["a loss beyond noise"]),
        ({"difference": (0.03, 0.01, 0.05)}, ["a gain beyond noise"]),
        ({"timings": (timing(1, 1.02, iqr=0.06),)}, ["1.02", "0.06", "cannot tell"]),
        ({"speedups": {1: 0.8}}, ["1.2 times slower"]),
        ({"speedups": {}}, ["not timed"]),
    ],
)
def test_the_headline_gives_gain_and_cost_with_errors_and_is_honest(changes: dict[str, Any], words: list[str]) -> None:
    text = headline(results(row(**changes)))
    assert [word for word in words if word not in text] == []


def test_it_is_about_the_chosen_network() -> None:
    fast, flattered = row(speedups={1: 3.0}), row("tucker", difference=(0.09, 0.05, 0.1))
    assert headline(results(flattered, fast)).startswith("HSCC, 6×")


@pytest.mark.parametrize(("value", "text"), [(1.23, "+1.2"), (-0.96, "−1.0"), (0.04, "0.0"), (-0.04, "0.0")])
def test_signs(value: float, text: str) -> None:
    assert signed(value) == text
