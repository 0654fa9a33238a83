from __future__ import annotations

import io

from rich.console import Console

from hscc.pipeline.report.markdown.tables import Grid, ablation_grid, protocols_grid, rivals_grid, seeds_grid

from .tabled import around, make_pair

GRID = Grid("title", ("network", "figure"), (("a|b", "1"), ("c", "2")))
CONTROL = {
    "budget": 6.0, "method": "global_groups", "lacks": "regions", "predicted_loss": 0.5, "val_kl_before": None,
    "kl_to_baseline": 0.02, "kl_to_baseline_se": 0.001, "accuracy": 0.9, "accuracy_se": 0.02, "mcnemar_p": 0.01,
    "mcnemar_p_holm": 0.04, **around("accuracy_difference", -0.02), **around("kl_difference", 0.05),
}  # fmt: skip


def test_a_grid_is_a_table_in_markdown_and_on_a_terminal() -> None:
    assert GRID.to_markdown() == "| network | figure |\n| --- | ---: |\n| a/b | 1 |\n| c | 2 |"
    console = Console(file=io.StringIO(), width=60)
    console.print(GRID.to_rich())
    assert "a|b" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_control_is_shown_with_what_it_lacks_and_what_that_costs() -> None:
    alone = {**CONTROL, "method": "hscc", "lacks": "", "accuracy_difference": None}
    (first, second) = ablation_grid([alone, CONTROL]).rows
    assert first[:3] == ("6×", "HSCC", "nothing")
    assert first[-1] == "–"
    assert second == (
        "6×", "HSCC, no regions", "regions", "0.500", "–", "0.020 ± 0.001", "+0.050 (+0.030 to +0.070)", "90.0 ± 2.0",
        "−2.0 (−4.0 to 0.0)", "0.010 (0.040)",
    )  # fmt: skip


def test_errors_over_seeds_stand_beside_those_of_the_test_set() -> None:
    row = {
        "method": "hscc", "budget": 6.0, "seeds": 3, "accuracy_mean": 0.9, "accuracy_sd": 0.02, "accuracy_se": 0.01,
        "accuracy_bootstrap_se": 0.024, "kl_to_baseline_mean": 0.03, "kl_to_baseline_se": 0.002,
    }  # fmt: skip
    assert seeds_grid([row]).rows == (("HSCC, 6×", "3", "90.0 ± 1.0", "2.0", "2.4", "0.030 ± 0.002"),)


def test_a_protocol_that_was_not_run_has_dashes() -> None:
    under = {**around("accuracy", 0.9), **around("accuracy_difference", 0.01)}
    both = {"grouped": under, "official": under}
    rows = [
        {"method": "dense", "budget": 1.0, "protocols": both, "leakage": None, "leakage_se": None},
        {"method": "hscc", "budget": 6.0, "protocols": {"grouped": under}, "leakage": 0.03, "leakage_se": 0.01},
    ]
    grid = protocols_grid(rows)
    assert grid.header[1] == "grouped: accuracy %"
    assert grid.rows[0] == ("Dense baseline", "90.0 ± 1.0", "–", "90.0 ± 1.0", "–", "–")
    assert grid.rows[1] == ("HSCC, 6×", "90.0 ± 1.0", "+1.0 (−1.0 to +3.0)", "–", "–", "+3.0 ± 1.0")


def test_rivals_name_both_sides() -> None:
    (row,) = rivals_grid([make_pair("tucker", 6.0, 0.03)]).rows
    assert row == ("HSCC, 6×, seed 0", "Tucker-2, 6×", "+3.0 (+1.0 to +5.0)", "0.010", "−0.030 (−0.050 to −0.010)")
