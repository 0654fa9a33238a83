from __future__ import annotations

import pytest

from hscc.pipeline.report.html.sections.section import (
    NOTHING,
    chance,
    difference,
    figure,
    signed_figure,
    with_error,
    with_spread,
)


def test_what_is_not_known_is_nothing() -> None:
    assert figure(None) is NOTHING
    assert with_error({"brier": None}, "brier") is NOTHING
    assert with_spread({}, "speedup_b1") is NOTHING
    assert difference({"d": None, "d_low": None, "d_high": None}, "d") is NOTHING
    assert chance(None) is NOTHING
    assert signed_figure(None) is NOTHING


def test_a_score_has_its_error_and_sorts_by_its_value() -> None:
    cell = with_error({"accuracy": 0.904, "accuracy_se": 0.024}, "accuracy", 1, 100.0)
    assert (cell.text, cell.aside) == ("90.4", "± 2.4")
    assert cell.value == pytest.approx(90.4)


def test_signs_are_true_minuses() -> None:
    assert figure(-0.1, 1).text == "−0.1"
    cell = difference({"d": -0.012, "d_low": -0.03, "d_high": 0.006}, "d")
    assert (cell.text, cell.aside) == ("−1.2", "−3.0 to +0.6")


@pytest.mark.parametrize(("p", "text"), [(0.0001, "< 0.001"), (0.0123, "0.012"), (1.0, "1.000")])
def test_chances(p: float, text: str) -> None:
    assert chance(p).text == text
