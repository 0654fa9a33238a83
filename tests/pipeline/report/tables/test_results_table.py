from __future__ import annotations

import io

import pytest
from rich.console import Console

from hscc.pipeline.report.renderings import to_rich
from hscc.pipeline.report.table import Table
from hscc.pipeline.report.tables.results_table import best_other, brief_note, brief_table, results_table, summary_table
from hscc.pipeline.report.tables.seed_means import mean_over_seeds
from hscc.pipeline.statistics.robustness import summarise_seeds

from ..documents import COMPARED, CONTROLS, RATIOS, TIMED, around, full_results, network, results_of


def column(table: Table, label: str) -> list[str]:
    index = next(place for place, found in enumerate(table.columns) if found.label == label)
    return [line.cells[index].text for line in table.lines]


def test_scores_are_means_and_what_is_paired_or_timed_is_the_first_seeds() -> None:
    first = network(seed=0, accuracy=around(0.90), gain=0.01)
    second = network(seed=1, accuracy=around(0.94, 0.03), timed=False)
    (mean,) = mean_over_seeds([second, first], summarise_seeds([first, second]))
    assert mean.row.primary.value == pytest.approx(0.92) and mean.row.primary.se == pytest.approx(0.02)
    assert mean.row.against_dense == first.against_dense and mean.row.timings == first.timings
    assert mean.score_se == pytest.approx(0.02) and len(mean.of_seeds) == 2


def test_one_seed_has_no_spread_and_order_stays() -> None:
    rows = [network("dense"), network("tucker", 3.0), network("hscc", 3.0), network("hscc", {"latency": 3.0})]
    means = mean_over_seeds(rows)
    assert [mean.row for mean in means] == rows
    assert all(mean.score_se is None for mean in means)


def test_a_row_is_a_method_and_budget_with_its_seeds_and_int8_variants() -> None:
    results = full_results((0, 1, 2))
    table = results_table(results)
    kinds = [line.kind for line in table.lines]
    cells = len(RATIOS) * len(COMPARED) + len(TIMED)
    assert kinds.count("compared") == cells
    assert kinds.count("control") == len(RATIOS) * len(CONTROLS)
    assert kinds.count("seed") == 3 * cells
    assert kinds.count("int8") == 1 + cells + len(RATIOS) * len(CONTROLS)
    (chosen,) = [line for line in table.lines if line.chosen]
    assert (chosen.head, chosen.cells[0].text) == ("Global SVD", "12×")
    assert results.chosen().name == "global_svd-macs12-seed0"
    assert column(table, "± over seeds")[1]


def test_one_seed_without_times_has_no_columns_for_them() -> None:
    table = results_table(results_of(network(timed=False)))
    assert "± over seeds" not in [found.label for found in table.columns]
    assert column(table, "speed-up, batch 1 (IQR)") == ["1.00×", ""]


def test_the_terminal_has_the_candidates_in_a_width_that_fits() -> None:
    results = full_results((0, 1))
    table = brief_table(results)
    console = Console(file=io.StringIO(), width=120)
    console.print(to_rich(table, brief_note(results)))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= 120 and "…" not in shown
    heads = [line.head for line in table.lines]
    assert len([head for head in heads if "int8" not in head]) == 1 + len(RATIOS) * len(COMPARED) + len(TIMED) + 2
    assert heads[:2] == ["Dense baseline", "└ in int8"] and heads[-1] == "Dense, official protocol"
    chosen = next(place for place, line in enumerate(table.lines) if line.chosen)
    assert heads[chosen + 1] == "└ in int8"
    assert column(table, "speed b1")[-1] == ""  # was not timed
    assert "90.0 ± 1.0" in shown and "asked" in shown


def test_phantoms_are_called_phantoms() -> None:
    assert "PHANTOM" in brief_table(results_of(network(), phantom=True)).caption


def test_the_summary_is_dense_the_best_other_the_chosen_and_its_int8_variant() -> None:
    chosen = network("hscc", {"macs": 10.0, "latency": 7.5}, gain=-0.01, speedup=8.0)
    same_macs = network("tucker", 12.0, gain=-0.05, speedup=4.0)
    nearer = network(
        "tucker_adaptive", 12.0, speedup=5.0, validation=same_macs.validation.model_copy(update={"kl": 0.01})
    )
    far = network("global_svd", 3.0, speedup=2.0)
    small = network("hscc", {"macs": 10.0, "latency": 7.5}, precision="int8")
    results = results_of(far, same_macs, nearer, chosen, small)
    assert best_other(results) == nearer  # of those with no more MACs the nearest to dense on validation
    table = summary_table(results)
    assert [line.head for line in table.lines] == ["Dense baseline", "Tucker-2, adaptive", "HSCC", "HSCC, in int8"]
    assert column(table, "− dense, points (95 %)") == ["", "0.0", "−1.0", "0.0"]
    assert column(table, "times faster, batch 16") == ["1.00×", "5.00×", "8.00×", "5.00×"]
    assert best_other(results_of(far, chosen)) == far  # nothing comparable: the fewest MACs
    assert best_other(results_of(chosen)) is None
