from __future__ import annotations

import pandas as pd
import pytest

from hscc.pipeline.statistics.results import flatten, frame, headline_figures, to_csv, to_json
from hscc.pipeline.statistics.schema import Estimate, Results
from tests.pipeline.rows import row


def test_a_column_for_each_figure(results: Results) -> None:
    table = frame(results.rows)
    assert table.columns.is_unique
    hscc = next(row for row in results.rows if row.name == "hscc-macs6-seed0")
    columns = flatten(hscc)
    assert {
        "budget_macs": 6.0,
        "budget_latency": None,
        "accuracy_low": hscc.primary.low,
        "f1_no_tumor_se": hscc.classes[2].f1.se,
        "against_dense": "dense",
        "against_dense_accuracy": hscc.against_dense.primary.value,
        "against_global_svd": "global_svd",
        "against_global_svd_f1_no_tumor_high": hscc.against_global_svd.f1["no_tumor"].high,
        "against_dense_mcnemar_p_holm": hscc.against_dense.mcnemar_p_holm,
        "validation_kl": hscc.validation.kl,
        "latency_ms_b1": 6.0,
        "speedup_b16_iqr": 0.1,
        "torch_peak_mb_b16": 90.0,
    }.items() <= columns.items()
    assert list(table.columns) == list(columns)  # the dense network has fewer


def test_a_metric_of_another_package_has_columns_of_its_name() -> None:
    columns = flatten(row(extra={"mine": Estimate(value=0.5, se=0.1)}))
    assert (columns["mine"], columns["mine_se"]) == (0.5, 0.1)


def test_headline_figures_are_numbers_by_name(results: Results) -> None:
    figures = headline_figures(results.rows)
    assert figures["tucker-macs3-seed0"]["speedup_b1"] == 2.0
    assert "speedup_b1" not in figures["dense-pooled"]
    assert all(isinstance(value, float | int) for entry in figures.values() for value in entry.values())


def test_csv_keeps_whole_numbers_whole_and_json_is_strict() -> None:
    assert to_csv(pd.DataFrame({"macs": [656000000], "ratio": [1 / 3]})) == "macs,ratio\n656000000,0.333333\n"
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"figure": float("nan")})
