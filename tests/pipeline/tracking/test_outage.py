"""A store that is down or locked: the work goes on, and what it recorded arrives in the end."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient

from hscc.errors import HSCCError
from hscc.pipeline.tracking import EXPERIMENT, PARENT_RUN, outage, send_backlog, stage_run, tracking_uri
from hscc.pipeline.tracking.journal import JOURNALS, count_waiting
from tests.pipeline.tracking.killed import kill_a_run

DOWN = "http://127.0.0.1:1"  # nothing ever listens there


@pytest.fixture(autouse=True)
def local_store(empty_store: Path, tmp_path: Path) -> None:
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")


@pytest.fixture
def down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DOWN)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")


def come_back(monkeypatch: pytest.MonkeyPatch, workspace: Path) -> MlflowClient:
    """Let the store of the workspace answer from now on."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    return MlflowClient(tracking_uri(workspace))


def runs_of(client: MlflowClient) -> dict[str, object]:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}


def test_a_store_that_is_down_costs_one_warning_and_nothing_is_lost(
    down: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").write_text("<p>")
    with stage_run("evaluate", "grouped", {"seed": 0}, workspace=tmp_path) as parent:
        parent.metrics({"loss": 2.0}, step=0)
        parent.metrics({"loss": 1.0}, step=1)
        parent.artifact(tmp_path / "report.html")
        with stage_run("evaluate", "cell", {}, {"mlflow.parentRunId": parent.run_id}, tmp_path) as child:
            child.metrics({"accuracy": 0.9})
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "hscc track" in said
    assert count_waiting(tmp_path) == 2
    (tmp_path / "report.html").unlink()

    client = come_back(monkeypatch, tmp_path)
    assert len(send_backlog(tmp_path)) == 2
    found = runs_of(client)
    late = found["evaluate-grouped"]
    assert late.info.status == "FINISHED"
    assert [point.value for point in client.get_metric_history(late.info.run_id, "loss")] == [2.0, 1.0]
    assert [entry.path for entry in client.list_artifacts(late.info.run_id)] == ["report.html"]
    assert found["evaluate-cell"].data.tags["mlflow.parentRunId"] == late.info.run_id
    assert found["evaluate-cell"].data.metrics == {"accuracy": 0.9}
    assert send_backlog(tmp_path) == []
    assert count_waiting(tmp_path) == 0


def test_a_store_that_is_still_down_keeps_everything(down: None, tmp_path: Path) -> None:
    with stage_run("train", "a", {}, workspace=tmp_path):
        pass
    with pytest.raises(HSCCError, match="1 of 1 runs keep waiting"):
        send_backlog(tmp_path)
    assert count_waiting(tmp_path) == 1


def test_a_child_that_arrived_before_its_parent_finds_it(
    down: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stage_run("pipeline", "nightly", {}, workspace=tmp_path) as parent:
        key = parent.run_id
    client = come_back(monkeypatch, tmp_path)
    monkeypatch.setenv(PARENT_RUN, key)
    with stage_run("train", "a", {}, workspace=tmp_path) as child:
        pass
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == key
    monkeypatch.setattr("hscc.pipeline.tracking.delivery._LIVE", 0.0)
    send_backlog(tmp_path)
    pipeline = runs_of(client)["pipeline-nightly"]
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == pipeline.info.run_id


def test_a_store_that_comes_back_during_a_run_gets_all_of_it(
    down: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stage_run("train", "a", {}, workspace=tmp_path) as run:
        run.metrics({"loss": 2.0}, step=0)
        assert run.run_id.startswith("local-")
        client = come_back(monkeypatch, tmp_path)
        run.metrics({"loss": 1.0}, step=1)
        assert client.get_run(run.run_id).info.status == "RUNNING"
    assert [point.step for point in client.get_metric_history(run.run_id, "loss")] == [0, 1]
    assert count_waiting(tmp_path) == 0


def test_a_store_that_goes_down_during_a_run_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with stage_run("train", "a", {}, workspace=tmp_path) as run:
        run.metrics({"loss": 2.0}, step=0)
        run_id = run.run_id
        run._client = None  # as after a lost connection
        monkeypatch.setenv("MLFLOW_TRACKING_URI", DOWN)
        run.metrics({"loss": 1.0}, step=1)
    client = come_back(monkeypatch, tmp_path)
    assert client.get_run(run_id).info.status == "RUNNING"
    (line,) = send_backlog(tmp_path)
    assert run_id in line
    assert client.get_run(run_id).info.status == "FINISHED"
    assert [point.step for point in client.get_metric_history(run_id, "loss")] == [0, 1]


def test_a_run_killed_while_the_store_was_down_is_resumed_and_arrives_once(
    down: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kill_a_run(tmp_path, {})
    client = come_back(monkeypatch, tmp_path)
    with stage_run("train", "k", {}, workspace=tmp_path) as run:
        run.metrics({"loss": 1.0}, step=1)
    assert [point.step for point in client.get_metric_history(run.run_id, "loss")] == [0, 1]
    assert list(runs_of(client)) == ["train-k"]


def test_a_run_created_without_an_answer_is_not_created_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    real = MlflowClient.create_run

    def created_but_unheard(self: MlflowClient, *args: object, **named: object) -> object:
        real(self, *args, **named)
        raise sqlalchemy.exc.OperationalError("create", {}, Exception("connection lost"))

    monkeypatch.setattr(MlflowClient, "create_run", created_but_unheard)
    with stage_run("train", "a", {}, workspace=tmp_path):
        pass
    monkeypatch.setattr(MlflowClient, "create_run", real)
    send_backlog(tmp_path)
    found = MlflowClient(tracking_uri(tmp_path)).search_runs(["1"])
    assert [run.info.status for run in found] == ["FINISHED"]


def test_a_locked_database_costs_a_warning_and_no_figure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    real = sqlalchemy.text
    monkeypatch.setattr(
        "sqlalchemy.sql.text", lambda text: real(text.replace("busy_timeout = 20000", "busy_timeout = 50"))
    )
    with stage_run("train", "a", {}, workspace=tmp_path) as run:
        run.metrics({"loss": 2.0}, step=0)
        writer = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        run.metrics({"loss": 1.0}, step=1)
        writer.execute("ROLLBACK")
        writer.close()
    assert "database is locked" in capsys.readouterr().err
    send_backlog(tmp_path)
    client = MlflowClient(tracking_uri(tmp_path))
    assert [point.step for point in client.get_metric_history(run.run_id, "loss")] == [0, 1]
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_what_mlflow_refuses_is_warned_of_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stage_run("train", "a", {}, workspace=tmp_path) as run:
        run.metrics({"a name with a #": 1.0})
        run.metrics({"loss": 1.0})
    assert "MLflow refuses the metrics" in capsys.readouterr().err
    assert MlflowClient(tracking_uri(tmp_path)).get_run(run.run_id).data.metrics["loss"] == 1.0


def test_a_journal_cut_short_by_a_kill_is_read_up_to_there(
    down: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with stage_run("train", "a", {}, workspace=tmp_path) as run:
        run.metrics({"loss": 2.0}, step=0)
    (events,) = (tmp_path / JOURNALS).glob("*/events.jsonl")
    events.write_text(events.read_text() + '{"do": "metr')
    client = come_back(monkeypatch, tmp_path)
    send_backlog(tmp_path)
    assert runs_of(client)["train-a"].data.metrics == {"loss": 2.0}


def test_an_event_that_a_full_disk_cut_short_does_not_spoil_the_next(
    down: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = Path.open

    def cut_short(path: Path, *given: Any, **named: Any) -> Any:
        file = real(path, *given, **named)
        if path.name == "events.jsonl":
            file.write('{"do": "metr')
            file.close()
            raise OSError(errno.ENOSPC, "No space left on device")
        return file

    with stage_run("train", "a", {}, workspace=tmp_path) as run:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", cut_short)
            with suppress(OSError):
                run.metrics({"loss": 3.0}, step=0)
        run.metrics({"loss": 2.0}, step=1)
    client = come_back(monkeypatch, tmp_path)
    send_backlog(tmp_path)
    assert runs_of(client)["train-a"].data.metrics == {"loss": 2.0}


def test_retries_back_off_and_a_late_failure_warns_again(
    down: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("hscc.pipeline.tracking.outage.time.time", lambda: clock[0])
    outage.record_failure(tmp_path, "refused")
    clock[0] += 29
    assert outage.is_backing_off(tmp_path)
    clock[0] += 2
    assert not outage.is_backing_off(tmp_path)
    outage.record_failure(tmp_path, "refused")
    clock[0] += 59
    assert outage.is_backing_off(tmp_path)
    assert capsys.readouterr().err.count("warning") == 1
    clock[0] += 5000
    outage.record_failure(tmp_path, "refused")
    assert capsys.readouterr().err.count("warning") == 1
    outage.clear(tmp_path)
    assert not outage.is_backing_off(tmp_path)


def test_a_password_in_the_address_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://hscc:hunter2@127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with stage_run("train", "a", {}, workspace=tmp_path):
        pass
    assert "***@127.0.0.1:1" in capsys.readouterr().err
    for path in (tmp_path / ".hscc").rglob("*"):
        assert path.is_dir() or "hunter2" not in path.read_text()
