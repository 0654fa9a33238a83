from __future__ import annotations

from hscc.pipeline.benchmark.measurement import Bench
from hscc.pipeline.report.tables.bench_table import bench_note, bench_table
from hscc.pipeline.report.tables.comparison_tables import (
    ablation_table,
    comparison_table,
    protocols_table,
    seeds_table,
)
from hscc.pipeline.report.tables.structure_tables import settings_table, structures_table
from hscc.pipeline.statistics.robustness import summarise_seeds

from ..documents import (
    COMPARED,
    RATIOS,
    around,
    compared,
    control,
    full_results,
    network,
    pair,
    results_of,
    structure_row,
    tradeoff,
)


def test_comparisons_leave_controls_to_the_ablation() -> None:
    results = full_results()
    table = comparison_table(results)
    assert len(table.lines) == len(RATIOS) * (len(COMPARED) - 1)
    assert len(comparison_table(results, with_controls=True).lines) == len(results.comparisons)


def test_a_comparison_says_what_is_beyond_noise() -> None:
    pairs = [pair("tucker", 6.0, 0.03), pair("tucker", 6.0, -0.03, 1), pair("tucker", {"latency": 5.0}, 0.0)]
    rows = comparison_table(results_of(network("tucker"), comparisons=pairs)).texts()
    assert rows[0] == (
        "Tucker-2", "6×", "–", "0", "+3.0 (+1.0 to +5.0)", "0.200", "−0.030 (−0.050 to −0.010)",
        "accuracy better, KL better",
    )  # fmt: skip
    assert rows[1][-1] == "accuracy worse, KL worse"
    assert rows[2][1:3] == ("–", "5×") and rows[2][-1] == "–"


def test_a_control_is_shown_with_what_it_lacks_and_what_that_costs() -> None:
    paired = compared("hscc_direct", -0.02, 0.05, 0.01, mcnemar_p_holm=0.04)
    alone, second = ablation_table([control("hscc", lacks=""), control(difference=paired)]).texts()
    assert alone[:3] == ("HSCC", "6×", "nothing") and alone[-1] == "–"
    assert second == (
        "HSCC, no regions", "6×", "regions", "HSCC, no projection", "0.600", "0.120", "0.030 ± 0.002",
        "+0.050 (+0.030 to +0.070)", "90.0 ± 1.0", "−2.0 (−4.0 to 0.0)", "0.010", "0.040",
    )  # fmt: skip


def test_errors_over_seeds_are_beside_those_of_the_test_set() -> None:
    rows = [network(seed=seed, accuracy=around(value)) for seed, value in enumerate((0.88, 0.9, 0.92))]
    assert seeds_table(summarise_seeds(rows)).texts() == [
        ("HSCC", "6×", "3", "90.0 ± 1.2", "2.0", "1.0", "0.030 ± 0.000")
    ]


def test_a_protocol_that_was_not_run_has_dashes() -> None:
    own = results_of(network(gain=0.01), network("tucker", 3.0))
    pooled = results_of(network(protocol="pooled", gain=0.04), protocol="pooled")
    rows = protocols_table({"grouped": own, "pooled": pooled}).texts()
    assert [row[0] for row in rows] == ["Dense baseline", "HSCC"]  # the second is under one protocol only
    assert rows[0][3] == "–"
    assert rows[1][1:] == (
        "6×", "91.0 ± 1.0", "+1.0 (−1.0 to +3.0)", "94.0 ± 1.0", "+4.0 (+2.0 to +6.0)", "+3.0 ± 1.4",
    )  # fmt: skip


def test_a_structure_is_a_row_and_a_budget_a_group_of_columns() -> None:
    figures = {"val_kl": {"value": 0.0512, "se": 0.004}, "val_accuracy": {"value": 0.901, "se": 0.024}}
    rows = [
        structure_row(2, 4, 3.0, **figures), structure_row(2, 4, 6.0, **figures),
        structure_row("auto", "auto", 3.0, method="hscc", **figures), structure_row(2, 4, 6.0, 96, **figures),
    ]  # fmt: skip
    table = structures_table(tradeoff(rows))
    assert [found.label for found in table.columns[:3]] == ["3×: KL", "3×: accuracy, %", "3×: faster b1 / b16"]
    full, searched, small = table.texts()
    assert full[:4] == ("2×2 regions, 4 clusters", "0.051 ± 0.004", "90.1 ± 2.4", "1.50× / 1.00×")
    assert searched == ("HSCC", *full[1:4], "–", "–", "–")  # a budget out of reach has no figures
    assert small == ("2×2 regions, 4 clusters, 96 images", "–", "–", "–", *full[4:])


def test_every_setting_names_the_fronts_it_is_on() -> None:
    lines = {(line.head, line.cells[0].text): line.cells[-1].text for line in settings_table(tradeoff()).lines}
    assert lines["4×4 regions, 8 clusters", "12×"] == "batch 1"
    assert lines["1 region, 1 cluster", "3×"] == "–"
    assert lines["HSCC", "6×"] == "MACs"


def test_the_bench_has_a_row_per_network_of_a_runtime() -> None:
    row = {
        "pairs": 9, "reference_ms": 12.0, "reference_ms_iqr": 0.5, "ms_iqr": 0.3, "speedup": 2.0, "speedup_iqr": 0.1,
        "speedup_se": 0.02, "load_mb": 95.0, "size_bytes": 2_000_000, "model_sha256": "a",
    }  # fmt: skip
    rows = [
        {**row, "network": name, "runtime": runtime, "batch": batch, "ms": 6.0 * batch, "peak_mb": peak}
        for runtime in ("onnxruntime", "torch")
        for name, peak in (("a.onnx", 90.0), ("b.onnx", None))
        for batch in (1, 16)
    ]
    bench = Bench.model_validate({
        "reference": "a.onnx", "runtimes": ("onnxruntime", "torch"), "batches": (1, 16), "threads": 2, "processors": 2,
        "machine": {"processor": "a processor", "cores": "2", "system": "a system"}, "versions": {}, "rows": rows,
    })  # fmt: skip
    table = bench_table(bench, "onnxruntime")
    assert "ONNX Runtime" in table.caption and "a.onnx" in bench_note(bench)
    assert table.texts()[0] == ("a.onnx", "2.0", "6", "2.00 ±0.02", "96", "2.00 ±0.02", "90")
    assert table.texts()[1][-1] == "–"
