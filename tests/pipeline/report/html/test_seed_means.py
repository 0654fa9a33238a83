from __future__ import annotations

import pytest

from hscc.pipeline.report.html.seed_means import fold

from .documents import row


def test_scores_are_means_and_what_is_paired_or_timed_is_the_first_seed_s() -> None:
    first, second = row(seed=0, accuracy=0.90), row(seed=1, accuracy=0.94, timed=False)
    second |= {"accuracy_se": 0.04, "accuracy_difference": 0.5}
    (folded,) = fold([second, first], [{"method": "hscc", "budget": 6.0, "accuracy_se": 0.02}])
    assert folded["accuracy"] == pytest.approx(0.92)
    assert folded["accuracy_se"] == pytest.approx(0.03)
    assert folded["accuracy_difference"] == first["accuracy_difference"]
    assert folded["speedup_b1"] == first["speedup_b1"] is not None
    assert (folded["n_seeds"], folded["accuracy_seed_se"]) == (2, 0.02)


def test_one_seed_has_no_spread_and_order_stays() -> None:
    rows = [row("dense", 1.0), row("tucker", 3.0), row("hscc", 3.0), row("tucker", 6.0)]
    folded = fold(rows)
    assert [(entry["method"], entry["budget"]) for entry in folded] == [(r["method"], r["budget"]) for r in rows]
    assert all(entry["accuracy_seed_se"] is None for entry in folded)
