from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.stages.report import run
from hscc.pipeline.statistics.predictions import to_parquet
from hscc.pipeline.statistics.schema import write_record
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.committed import committed
from tests.pipeline.report.documents import findings, history, insight, network, predictions, results_of, tradeoff

PARAMS = committed(train={"protocols": ["grouped", "pooled"]})
LOCK = """schema: '2.0'
stages:
  evaluate:
    outs:
    - {path: reports/results.json, md5: 0123456789abcdef}
  report:
    outs:
    - {path: reports/report.html, md5: fedcba9876543210}
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_needed(workspace: Path) -> None:
    """What evaluate writes, of two networks."""
    results = results_of(network(), network("dense", protocol="pooled"))
    write(workspace / layout.RESULTS_JSON, write_record(results))
    (workspace / layout.PREDICTIONS).write_bytes(to_parquet(predictions(results)))


def data_report() -> dict[str, object]:
    """The committed report on the data, with the findings of the tests."""
    content = json.loads((Path(__file__).parents[3] / layout.DATA_REPORT).read_text(encoding="utf-8"))
    return {**content, "findings": [found.model_dump() for found in findings()]}


def write_optional(workspace: Path) -> None:
    """What may be missing: documents of other stages, curves, findings, another protocol, notes of runs."""
    write(workspace / layout.INSIGHT_JSON, write_record(insight(workspace / layout.INSIGHT)))
    write(workspace / layout.TRADEOFF_JSON, write_record(tradeoff()))
    write(workspace / layout.DATA_REPORT, json.dumps(data_report()))
    write(workspace / layout.train_history("grouped"), history().to_csv(index=False))
    pooled = results_of(network(protocol="pooled"), protocol="pooled")
    write(workspace / layout.PROTOCOLS / "pooled.json", write_record(pooled))
    write(workspace / layout.RUNS / "evaluate-grouped.json", '{"run_id": "123abc"}')
    write(workspace / layout.LOCK, LOCK)


@pytest.fixture(scope="module")
def reported(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copy(empty_store, workspace)
    write_needed(workspace)
    write_optional(workspace)
    write(workspace / layout.FIGURES / "of-an-earlier-grid.svg", "<svg/>")
    run(PARAMS, workspace)
    return workspace


def test_every_input_has_its_section(reported: Path) -> None:
    html = (reported / layout.REPORT).read_text(encoding="utf-8")
    for name in ("data", "results", "tradeoff", "insight", "protocols", "training", "provenance"):
        assert f'<h2 id="{name}"' in html


def test_hashes_and_runs_of_earlier_stages_are_named_and_its_own_are_not(reported: Path) -> None:
    html = (reported / layout.REPORT).read_text(encoding="utf-8")
    assert "0123456789abcdef" in html and "fedcba9876543210" not in html
    assert "123abc" in html


def test_figures_are_replaced_as_a_whole(reported: Path) -> None:
    names = {path.stem for path in (reported / layout.FIGURES).iterdir()}
    assert {"pareto-macs-ratio", "reliability", "f1", "tradeoff-speedup-b1"} <= names
    assert "of-an-earlier-grid" not in names


def test_the_reliability_table_counts_every_image_once(reported: Path) -> None:
    frame = pd.read_csv(reported / layout.RELIABILITY)
    results = json.loads((reported / layout.RESULTS_JSON).read_text())
    for name in ("dense", "recommended"):
        assert frame[f"{name}_images"].sum() == results["rows"][0]["n_test"]
    assert frame["confidence"].is_monotonic_increasing


def test_the_run_keeps_page_and_figures_and_the_page_names_the_run(reported: Path) -> None:
    client = MlflowClient(tracking_uri(reported))
    experiment = client.get_experiment_by_name("hscc")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'report-grouped'")
    kept = {entry.path for entry in client.list_artifacts(found.info.run_id)}
    assert "report.html" in kept
    assert found.info.run_id in (reported / layout.REPORT).read_text(encoding="utf-8")


@pytest.fixture
def workspace(empty_store: Path, tmp_path: Path) -> Path:
    shutil.copy(empty_store, tmp_path)
    return tmp_path


def test_what_evaluate_writes_is_enough(workspace: Path) -> None:
    write_needed(workspace)
    run(PARAMS, workspace)
    html = (workspace / layout.REPORT).read_text(encoding="utf-8")
    assert html.count('class="note absent"') == 6


@pytest.mark.parametrize("missing", [layout.RESULTS_JSON, layout.PREDICTIONS])
def test_what_must_be_there_is_named_and_an_earlier_report_stays(workspace: Path, missing: Path) -> None:
    write_needed(workspace)
    write(workspace / layout.REPORT, "earlier")
    (workspace / missing).unlink()
    with pytest.raises(ArtifactError, match="hscc evaluate"):
        run(PARAMS, workspace)
    assert (workspace / layout.REPORT).read_text() == "earlier"


def test_a_picture_that_is_missing_leaves_the_earlier_report(workspace: Path) -> None:
    write_needed(workspace)
    write(workspace / layout.INSIGHT_JSON, write_record(insight(workspace / layout.INSIGHT)))
    write(workspace / layout.REPORT, "earlier")
    shutil.rmtree(workspace / layout.INSIGHT)
    with pytest.raises(ArtifactError, match="run `hscc insight` again"):
        run(PARAMS, workspace)
    assert (workspace / layout.REPORT).read_text() == "earlier"
