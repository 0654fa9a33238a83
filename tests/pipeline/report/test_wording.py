from __future__ import annotations

import pytest

from hscc.pipeline.report.wording import against_figure, count, listed, of_sign, percent, points, score
from hscc.pipeline.statistics.schema import Estimate

from .documents import around


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.91, 0.95, "exceeded"), (0.85, 0.89, "refuted"), (0.89, 0.91, "reproduced"), (0.9, 0.95, "reproduced")],
)
def test_a_figure_is_judged_by_the_whole_interval(low: float, high: float, word: str) -> None:
    assert against_figure(low, high, 0.9) == word


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.01, 0.2, "reproduced"), (-0.2, -0.01, "refuted"), (-0.1, 0.1, "undecided"), (None, None, "undecided")],
)
def test_a_direction_is_judged_by_the_whole_interval(low: float | None, high: float | None, word: str) -> None:
    assert of_sign(Estimate(value=0.1, low=low, high=high)) == word


def test_figures_have_their_errors() -> None:
    assert percent(around(0.9)) == "90.0 % (88.0 to 92.0)"
    assert score(around(0.9)) == "90.0 ± 1.0"
    assert points(around(-0.012)) == "−1.2 (−3.2 to +0.8)"


def test_lists_read_as_sentences() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a, 3", "b, 3"]) == "a, 3; b, 3"
    assert (count(3), count(30)) == ("three", "30")
