from __future__ import annotations

from typing import Any

import pytest

from hscc.pipeline.statistics.results import compressed_rows
from hscc.pipeline.statistics.robustness import summarise_seeds


def test_seeds_are_averaged(document: dict[str, Any]) -> None:
    rows = compressed_rows(document["rows"], "grouped")
    assert summarise_seeds(rows) == summarise_seeds([]) == []
    again = [{**row, "seed": 1, "accuracy": row["accuracy"] - 0.1} for row in rows]
    (first, second, *_) = summarise_seeds([rows[0], again[0], rows[1], again[1], rows[2]])
    assert (first["method"], first["budget"], first["seeds"]) == ("global_svd", 3.0, 2)
    assert first["accuracy_mean"] == pytest.approx(rows[0]["accuracy"] - 0.05)
    assert first["accuracy_sd"] == pytest.approx(0.1 / 2**0.5)
    assert first["accuracy_se"] == pytest.approx(0.05)
    assert first["accuracy_bootstrap_se"] == pytest.approx(rows[0]["accuracy_se"])
    assert first["kl_to_baseline_sd"] == 0.0
    assert second["method"] == "tucker"


def test_a_network_of_one_seed_is_left_out(document: dict[str, Any]) -> None:
    rows = compressed_rows(document["rows"], "grouped")
    summary = summarise_seeds([*rows, {**rows[0], "seed": 1}])
    assert [entry["method"] for entry in summary] == ["global_svd"]
