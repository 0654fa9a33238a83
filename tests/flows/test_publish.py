import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect import flow

from flows import pages, publish
from flows.publish import REPORTS
from hscc.pipeline import layout
from hscc.pipeline.statistics.schema import read_results

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would go to the server, by key."""
    shown: dict[str, Any] = {}

    def keep(content: Any = None, *, key: str, description: str, **other: Any) -> Any:
        shown[key] = content if content is not None else other["markdown"]
        shown[f"said of {key}"] = description
        return uuid4()

    for kind in ("link", "markdown", "progress", "table"):
        monkeypatch.setattr(publish, f"create_{kind}_artifact", keep)
    return shown


def test_reports_become_artifacts(made: dict[str, Any], tmp_path: Path) -> None:
    for path in (layout.RESULTS_JSON, layout.DATA_REPORT):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / path, tmp_path / path)
    (tmp_path / layout.REPORT).write_text("<p>")
    (tmp_path / layout.FIGURES).mkdir()
    (tmp_path / layout.FIGURES / "pareto.svg").write_text("<svg/>")
    publish.publish_reports(tmp_path / REPORTS)
    rows = read_results(ROOT / layout.RESULTS_JSON).rows
    assert len(made["results"]) == len(rows)
    found, shown = rows[-1].primary, made["results"][-1]
    assert f"{100 * found.value:.1f} ± {100 * found.se:.1f}" in shown["accuracy"]
    speeds = [name for name in made["results"][0] if name.startswith("speed")]
    assert speeds == ["speed b1", "speed b16", "speed b64"]
    assert made["report"] == (tmp_path / layout.REPORT).as_uri()
    assert made["figures"] == f"- [pareto]({(tmp_path / layout.FIGURES / 'pareto.svg').as_uri()})"
    data = json.loads((ROOT / layout.DATA_REPORT).read_text())
    assert made["validation"].startswith(f"{data['files']['count']:,} images")
    assert all(found["title"] in made["validation"] for found in data["findings"])


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """A folder with a report, a figure and the note of the run that wrote them."""
    reports = tmp_path / REPORTS
    (reports / "figures").mkdir(parents=True)
    (reports / "runs").mkdir()
    (reports / "report.html").write_text("<p>")
    (reports / "figures/pareto.svg").write_text("<svg/>")
    (reports / "runs/report-grouped.json").write_text('{"run_id": "0a1b"}')
    (reports / "runs/train-grouped.json").write_text('{"run_id": "other"}')
    return reports


def test_where_mlflow_is_a_server_the_links_lead_to_its_pages(
    made: dict[str, Any], reported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@mlflow:5000/")
    found = SimpleNamespace(experiment_id="7")
    client = SimpleNamespace(get_run=asked.append, get_experiment_by_name=lambda name: found)
    monkeypatch.setattr(pages, "open_client", lambda: client)
    publish.publish_reports(reported)
    page = "http://mlflow:5000/#/experiments/7/runs/0a1b/artifacts"
    assert made["report"] == f"{page}/report.html"
    assert made["figures"] == f"- [pareto]({page}/figures/pareto.svg)"
    assert set(asked) == {"0a1b"}
    assert "address bar" not in made["said of report"]


@pytest.mark.parametrize("note", ["{", None])
def test_without_a_page_the_file_is_named_and_how_to_open_it(
    note: str | None, made: dict[str, Any], reported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # nobody answers there
    if note is not None:
        (reported / "runs/report-grouped.json").write_text(note)
    publish.publish_reports(reported)
    assert made["report"] == (reported / "report.html").as_uri()
    for key in ("report", "figures"):
        assert "paste the link into the browser's address bar" in made[f"said of {key}"]
    assert str(reported / "report.html") in made["said of report"]


def test_what_is_not_there_is_left_out(made: dict[str, Any], tmp_path: Path) -> None:
    publish.publish_reports(tmp_path / REPORTS)
    assert made == {}


def test_outcomes_become_a_table(made: dict[str, Any]) -> None:
    publish.publish_outcomes([publish.Outcome("sweep@x", "ran", 1.25), publish.Outcome("last", "failed", 0.0)])
    assert made["pipeline"].splitlines()[2:] == ["| sweep@x | ran | 1.2 |", "| last | failed | 0.0 |"]


def test_a_server_that_is_gone_costs_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*content: Any, **other: Any) -> Any:
        raise httpx.ConnectError("nobody there")

    for kind in ("markdown", "progress"):
        monkeypatch.setattr(publish, f"create_{kind}_artifact", refuse)

    @flow
    def run() -> str:
        publish.Progress(3).show(1)
        publish.publish_outcomes([])
        return "went on"

    assert run() == "went on"
    assert caplog.text.count("the Prefect server took no artifact: nobody there") == 2
