import json
import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect import flow

from flows import publish
from hscc.stages import layout

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would go to the server, by key."""
    shown: dict[str, Any] = {}

    def keep(content: Any = None, *, key: str, description: str, **other: Any) -> Any:
        shown[key] = content if content is not None else other["markdown"]
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
    publish.publish_reports(tmp_path)
    results = json.loads((ROOT / layout.RESULTS_JSON).read_text())
    assert len(made["results"]) == len(results["rows"])
    row, shown = results["rows"][-1], made["results"][-1]
    assert shown["accuracy %"] == f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_se']:.1f}"
    speeds = [name for name in made["results"][0] if name.startswith("speed")]
    assert speeds == ["speed b1", "speed b16", "speed b64"]
    assert made["report"] == (tmp_path / layout.REPORT).as_uri()
    assert made["figures"] == f"- [pareto]({(tmp_path / layout.FIGURES / 'pareto.svg').as_uri()})"
    data = json.loads((ROOT / layout.DATA_REPORT).read_text())
    assert made["validation"].startswith(f"{data['files']['count']:,} images")
    assert all(found["title"] in made["validation"] for found in data["findings"])


def test_what_is_not_there_is_left_out(made: dict[str, Any], tmp_path: Path) -> None:
    publish.publish_reports(tmp_path)
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
