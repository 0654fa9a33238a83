from __future__ import annotations

from pathlib import Path

import pytest

from hscc.errors import ArtifactError
from hscc.files import replace_text
from hscc.pipeline import layout
from hscc.pipeline.benchmark.measurement import read_bench
from hscc.pipeline.cell_spec import parse_cell
from hscc.pipeline.statistics.robustness import read_protocols
from hscc.pipeline.statistics.schema import Estimate, NetworkRow, Results, read_results, write_record
from hscc.pipeline.statistics.structure_schema import read_structure_grid
from tests.pipeline.rows import results as made
from tests.pipeline.rows import row

ROOT = Path(__file__).parents[3]


def test_a_row_is_named_as_its_cell(results: Results) -> None:
    names = [row.name for row in results.rows]
    assert names == [
        "dense-grouped",
        *(f"{method}-macs{macs}-seed0" for macs in (3, 6) for method in ("global_svd", "tucker", "hscc")),
        "dense-pooled",
        "dense-grouped-int8",
        "hscc-macs6-seed0-int8",
    ]
    assert [row.spec and parse_cell(row.name) == row.spec for row in results.rows] == [
        None, *[True] * 6, None, None, True,
    ]  # fmt: skip


def test_rows_are_found_by_what_they_are(results: Results) -> None:
    assert results.dense().name == "dense-grouped"
    assert results.dense("pooled").macs_ratio == 1.0
    assert len(results.compressed()) == len(results.candidates()) == 6
    hscc = results.compressed()[-1]
    assert results.int8_of(hscc).name == "hscc-macs6-seed0-int8"
    assert results.int8_of(results.dense()).name == "dense-grouped-int8"
    assert results.int8_of(results.compressed()[0]) is None
    assert results.batches() == results.batches("torch") == [1, 16]
    assert results.dense("pooled").timing(1) is results.dense("pooled").lowest_speedup is None


def test_controls_and_further_seeds_are_no_candidates() -> None:
    rows = [row("a"), row("a", seed=1), row("b", role="control"), row("c", precision="int8")]
    assert [each.name for each in made(*rows).candidates()] == ["a-macs6-seed0"]


def test_the_first_seed_is_that_of_a_method_at_a_budget() -> None:
    rows = [row("a", seed=1), row("a", seed=2), row("b"), row("random", role="control")]
    assert [each.name for each in made(*rows).candidates()] == ["a-macs6-seed1", "b-macs6-seed0"]
    with pytest.raises(ArtifactError, match="controls only"):
        made(row("random", role="control")).chosen()


def test_the_test_split_does_not_choose_the_network() -> None:
    flattered = row("tucker", accuracy=Estimate(value=0.99), difference=(0.09, 0.05, 0.12), val_kl=0.2)
    assert made(flattered, row("hscc")).chosen().method == "hscc"


def test_what_is_undefined_is_null_and_survives(tmp_path: Path, results: Results) -> None:
    path = tmp_path / "reports" / "results.json"
    replace_text(path, write_record(results))
    assert read_results(path) == results
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]
    undefined = made(row(roc_auc=Estimate(value=float("nan"))))
    assert "NaN" not in write_record(undefined)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"rows": []}', "\udcff"])
def test_what_is_no_results_table_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ArtifactError, match="hscc evaluate"):
        read_results(path)


def test_results_without_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(write_record(made(rows=())))
    with pytest.raises(ArtifactError, match="has no rows"):
        read_results(path)


def test_missing_results_name_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist; run `hscc evaluate`"):
        read_results(tmp_path / "results.json")


def test_the_committed_reports_are_of_this_version() -> None:
    found = read_protocols(ROOT / layout.RESULTS_JSON, ROOT / layout.PROTOCOLS)
    assert list(found) == ["grouped", "official", "pooled"]
    bench, grid = read_bench(ROOT / layout.BENCH_JSON), read_structure_grid(ROOT / layout.TRADEOFF_JSON)
    results = found["grouped"]
    timed = {row.name for row in results.rows if row.timings}
    assert timed == {row.network for row in bench.rows}
    assert len({row.name for row in grid.rows}) == len(grid.rows)


def test_records_of_earlier_versions_are_read_as_they_were() -> None:
    new = row("hscc")
    old = new.model_dump(exclude={"score", "scores", "against_dense", "validation"})
    old |= {name: score.model_dump() for name, score in new.scores.items()} | {"extra": {"mine": {"value": 0.5}}}
    old["validation"] = {
        "accuracy": 0.9, "kl": 0.1, "accuracy_before": 0.8, "kl_before": None, "predicted_loss": None,
        "accuracy_untrained": 0.85,
    }  # fmt: skip
    old["against_dense"] = {
        "against": "dense", "accuracy": {"value": -0.01}, "kl": {"value": 0.1}, "mcnemar_p": 0.5,
        "macro_f1": {"value": -0.02},
    }  # fmt: skip
    found = NetworkRow.model_validate(old)
    assert found.score == "accuracy" and found.primary == new.primary
    assert set(found.scores) == {*new.scores, "mine"}
    assert (found.validation.score, found.validation.score_before, found.validation.score_untrained) == (0.9, 0.8, 0.85)
    assert found.against_dense.primary.value == -0.01 and found.against_dense.scores["macro_f1"].value == -0.02
    assert NetworkRow.model_validate_json(found.model_dump_json()) == found
