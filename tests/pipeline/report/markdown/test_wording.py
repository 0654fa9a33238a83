from __future__ import annotations

import pytest

from hscc.pipeline.report.markdown.wording import against_figure, listed, of_sign, p_value, percent, points


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(0.91, 0.95, "exceeded"), (0.85, 0.89, "refuted"), (0.89, 0.91, "reproduced"), (0.9, 0.95, "reproduced")],
)
def test_a_figure_is_judged_by_the_whole_interval(low: float, high: float, word: str) -> None:
    assert against_figure(low, high, 0.9) == word


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.01, 0.2, "reproduced"), (-0.2, -0.01, "refuted"), (-0.1, 0.1, "undecided")]
)
def test_a_direction_is_judged_by_the_whole_interval(low: float, high: float, word: str) -> None:
    assert of_sign(low, high) == word


def test_figures_carry_their_intervals() -> None:
    row = {"accuracy": 0.904, "accuracy_low": 0.87, "accuracy_high": 0.931}
    assert percent(row) == "90.4 % (87.0 to 93.1)"
    difference = {
        f"accuracy_difference{end}": value for end, value in {"": -0.012, "_low": -0.03, "_high": 0.006}.items()
    }
    assert points(difference) == "−1.2 (−3.0 to +0.6)"
    assert (p_value(0.0004), p_value(0.25)) == ("< 0.001", "0.250")


def test_lists_read_as_sentences() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a, 3", "b, 3"]) == "a, 3; b, 3"
