from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.statistics.results import row_name, to_json
from hscc.pipeline.statistics.robustness import compare_protocols, read_protocols

Document = dict[str, Any]


def pooled(document: Document, gain: float = 0.05) -> Document:
    """Make the document of a run under the pooled protocol, each network so much more accurate."""
    rows = [row for row in document["rows"] if row["protocol"] == "grouped" and row["method"] != "tucker"]
    return {
        **document,
        "protocol": "pooled",
        "rows": [{**row, "protocol": "pooled", "accuracy": row["accuracy"] + gain} for row in rows],
    }


def test_the_same_network_stands_side_by_side(document: Document) -> None:
    table = compare_protocols({"grouped": document, "pooled": pooled(document)})
    names = [(entry["method"], entry["budget"]) for entry in table]
    assert names == [("dense", 1.0), ("global_svd", 3.0), ("hscc", 3.0), ("global_svd", 6.0), ("hscc", 6.0)]
    row = next(row for row in document["rows"] if row_name(row) == "hscc-6-0")
    entry = table[-1]
    assert entry["protocols"]["grouped"]["accuracy"] == row["accuracy"]
    assert entry["protocols"]["pooled"]["accuracy_difference"] == row["accuracy_difference"]
    assert entry["leakage"] == pytest.approx(0.05)
    assert entry["leakage_se"] == pytest.approx(math.sqrt(2) * row["accuracy_se"])


def test_baselines_are_known_without_a_run_of_their_own(document: Document) -> None:
    (entry,) = compare_protocols({"grouped": document})
    assert list(entry["protocols"]) == ["grouped", "pooled"]
    assert entry["leakage"] is not None


def test_without_a_leaky_split_nothing_is_said_of_leakage(make_document: Callable[..., Document]) -> None:
    document = make_document()
    document["rows"] = [row for row in document["rows"] if row["protocol"] == "grouped"]
    (entry,) = compare_protocols({"grouped": document})
    assert entry["leakage"] is entry["leakage_se"] is None


def test_the_files_are_read_and_the_own_protocol_comes_first(tmp_path: Path, document: Document) -> None:
    (tmp_path / "results.json").write_text(to_json(document))
    assert list(read_protocols(tmp_path / "results.json", tmp_path / "protocols")) == ["grouped"]
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols/pooled.json").write_text(to_json(pooled(document)))
    (tmp_path / "protocols/grouped.json").write_text(to_json(pooled(document)))
    found = read_protocols(tmp_path / "results.json", tmp_path / "protocols")
    assert [(name, each["protocol"]) for name, each in found.items()] == [("grouped", "grouped"), ("pooled", "pooled")]
    (tmp_path / "protocols/official.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"official\.json is not a results table"):
        read_protocols(tmp_path / "results.json", tmp_path / "protocols")
