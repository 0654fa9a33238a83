from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.pipeline.statistics.results import (
    batches,
    candidate_rows,
    compressed_rows,
    dense_row,
    float_rows,
    headline_figures,
    preference,
    quantised_rows,
    read_document,
    row_name,
    to_csv,
    to_json,
)

Document = dict[str, Any]


def test_ratios_and_efficiency_follow_from_the_counts(document: Document) -> None:
    row = next(row for row in document["rows"] if row_name(row) == "hscc-6-0")
    assert row["macs_ratio"] == pytest.approx(6.0)
    assert row["params_ratio"] == 1.0
    assert row["speedup_b16"] == 2.0
    assert row["efficiency_b16"] == pytest.approx(2.0 / 6.0)
    assert row["latency_ms_b1"] == 6.0


def test_the_baseline_is_its_own_reference(document: Document) -> None:
    row = dense_row(document["rows"], "grouped")
    assert row["speedup_b1"] == row["macs_ratio"] == row["efficiency_b1"] == row["mcnemar_p"] == 1.0
    assert row["kl_to_baseline"] == row["accuracy_difference"] == row["accuracy_difference_se"] == 0.0


def test_a_baseline_of_another_protocol_is_not_timed(document: Document) -> None:
    row = dense_row(document["rows"], "pooled")
    assert row["macs_ratio"] == 1.0
    assert row["speedup_b1"] is row["latency_ms_b16"] is None


def test_controls_and_further_seeds_are_no_candidates(document: Document) -> None:
    rows = document["rows"]
    assert len(candidate_rows(rows, "grouped")) == 6
    again = [{**row, "seed": 1} for row in rows if row["method"] == "hscc"]
    roles = [{**row, "role": "control"} if row["method"] == "tucker" else row for row in rows]
    assert [row_name(row) for row in candidate_rows(roles + again, "grouped")] == [
        "global_svd-3-0", "hscc-3-0", "global_svd-6-0", "hscc-6-0",
    ]  # fmt: skip


def test_a_figure_that_is_undefined_is_null_not_nan(document: Document) -> None:
    text = to_json({"rows": document["rows"]})
    assert json.loads(text)["rows"][1]["predicted_loss"] is None
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json({"figure": float("nan")})


def test_batches_are_read_off_the_columns(document: Document) -> None:
    assert batches(document["rows"]) == [1, 16]


def test_compressed_rows_are_those_of_the_protocol(document: Document) -> None:
    assert len(compressed_rows(document["rows"], "grouped")) == 6
    assert compressed_rows(document["rows"], "pooled") == []


def test_int8_twins_are_rows_of_their_own(document: Document) -> None:
    twins = quantised_rows(document["rows"])
    assert [row_name(row) for row in twins] == ["dense-grouped-int8", "hscc-6-0-int8"]
    assert dense_row(document["rows"], "grouped")["precision"] == "fp32"
    assert len(float_rows(document["rows"])) == len(document["rows"]) - 2


def test_headline_figures_are_numbers_by_name(document: Document) -> None:
    figures = headline_figures(document["rows"])
    assert figures["tucker-3-0"]["speedup_b1"] == 2.0
    assert all(isinstance(value, float | int) for entry in figures.values() for value in entry.values())


def candidate(budget: float, accuracy: float, kl: float, method: str = "a", test: float = 0.5) -> Document:
    return {
        "method": method, "budget": budget, "seed": 0, "protocol": "grouped",
        "val_accuracy": accuracy, "val_kl": kl, "accuracy": test,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (candidate(6, 0.8, 0.3), candidate(3, 0.9, 0.1)),
        (candidate(6, 0.9, 0.3), candidate(6, 0.8, 0.1)),
        (candidate(6, 0.9, 0.1), candidate(6, 0.9, 0.3)),
        (candidate(6, 0.9, 0.1, "a"), candidate(6, 0.9, 0.1, "b")),
        (candidate(6, 0.9, 0.1, test=0.1), candidate(6, 0.8, 0.1, test=0.9)),
    ],
)
def test_preference_is_tier_then_validation(better: Document, worse: Document) -> None:
    assert preference(better) < preference(worse)


def test_a_document_survives_writing_and_reading(tmp_path: Path, document: Document) -> None:
    path = tmp_path / "reports" / "results.json"
    replace_text(path, to_json(document))
    assert read_document(path) == json.loads(json.dumps(document))
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"rows": []}'])
def test_what_is_no_results_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ArtifactError, match="hscc evaluate"):
        read_document(path)


def test_missing_results_name_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist; run `hscc evaluate`"):
        read_document(tmp_path / "results.json")


def test_csv_keeps_whole_numbers_whole() -> None:
    assert to_csv(pd.DataFrame({"macs": [656000000], "ratio": [1 / 3]})) == "macs,ratio\n656000000,0.333333\n"
