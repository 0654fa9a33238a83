from __future__ import annotations

import math
from pathlib import Path

import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.statistics.robustness import compare_protocols, read_protocols
from hscc.pipeline.statistics.schema import Results, write_record


def pooled(results: Results, gain: float = 0.05) -> Results:
    """Make the results of a run under the pooled protocol, each network so much more accurate."""
    rows = []
    for row in results.rows:
        if row.protocol == "grouped" and row.method != "tucker":
            better = row.primary.model_copy(update={"value": row.primary.value + gain})
            rows.append(row.model_copy(update={"protocol": "pooled", "scores": {**row.scores, "accuracy": better}}))
    return results.model_copy(update={"protocol": "pooled", "rows": tuple(rows)})


def test_the_same_network_stands_side_by_side(results: Results) -> None:
    table = compare_protocols({"grouped": results, "pooled": pooled(results)})
    names = [(entry.method, entry.budget.macs) for entry in table]
    assert names == [("dense", None), ("global_svd", 3.0), ("hscc", 3.0), ("global_svd", 6.0), ("hscc", 6.0)]
    row = next(row for row in results.rows if row.name == "hscc-macs6-seed0")
    entry = table[-1]
    assert entry.protocols["grouped"].primary == row.primary
    assert entry.protocols["pooled"].against_dense == row.against_dense
    assert entry.leakage == pytest.approx(0.05)
    assert entry.leakage_se == pytest.approx(math.sqrt(2) * row.primary.se)


def test_baselines_are_known_without_a_run_of_their_own(results: Results) -> None:
    (entry,) = compare_protocols({"grouped": results})
    assert list(entry.protocols) == ["grouped", "pooled"]
    assert entry.leakage is not None


def test_without_a_leaky_split_nothing_is_said_of_leakage(results: Results) -> None:
    own = results.model_copy(update={"rows": tuple(row for row in results.rows if row.protocol == "grouped")})
    (entry,) = compare_protocols({"grouped": own})
    assert entry.leakage is entry.leakage_se is None


def test_the_files_are_read_and_the_own_protocol_comes_first(tmp_path: Path, results: Results) -> None:
    (tmp_path / "results.json").write_text(write_record(results))
    assert list(read_protocols(tmp_path / "results.json", tmp_path / "protocols")) == ["grouped"]
    (tmp_path / "protocols").mkdir()
    (tmp_path / "protocols/pooled.json").write_text(write_record(pooled(results)))
    (tmp_path / "protocols/grouped.json").write_text(write_record(pooled(results)))
    found = read_protocols(tmp_path / "results.json", tmp_path / "protocols")
    assert [(name, each.protocol) for name, each in found.items()] == [("grouped", "grouped"), ("pooled", "pooled")]
    (tmp_path / "protocols/official.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"official\.json is not what"):
        read_protocols(tmp_path / "results.json", tmp_path / "protocols")
