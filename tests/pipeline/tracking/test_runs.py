import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from mlflow import MlflowClient

from hscc.errors import HSCCError
from hscc.pipeline.tracking import EXPERIMENT, PARENT_RUN, stage_run, tracking_uri
from tests.pipeline.tracking.killed import kill_a_run

HASH = "0123456789abcdef0123456789abcdef.dir"
PARAMS = {"epochs": 3, "finetune": {"rate": 0.1}}


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One store for all tests here."""
    uri = f"sqlite:///{shutil.copy(empty_store, tmp_path_factory.mktemp('runs'))}"
    MlflowClient(tracking_uri=uri).create_experiment(
        EXPERIMENT, artifact_location=tmp_path_factory.mktemp("artifacts").as_uri()
    )
    yield uri


@pytest.fixture
def client(store: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return MlflowClient(tracking_uri=store)


def only_note(workspace: Path) -> dict[str, Any]:
    (note,) = (workspace / ".hscc/runs").glob("*.json")
    return json.loads(note.read_text())


def test_a_run_holds_what_was_recorded(client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {HASH}\n  path: data\n")
    (tmp_path / "figure.txt").write_text("x")
    folder = tmp_path / "plots"
    folder.mkdir()
    (folder / "one.txt").write_text("y")
    with stage_run("train", "grouped", PARAMS, {"protocol": "grouped"}, tmp_path) as run:
        run.metrics({"loss": 2.0}, step=0)
        run.metrics({"loss": 1.0}, step=1)
        run.artifact(tmp_path / "figure.txt")
        run.artifact(folder)
    kept = client.get_run(run.run_id)
    assert kept.info.status == "FINISHED"
    assert kept.info.run_name == "train-grouped"
    assert kept.data.params == {"epochs": "3", "finetune.rate": "0.1"}
    assert {name: value for name, value in kept.data.metrics.items() if not name.startswith("system/")} == {"loss": 1.0}
    assert [(point.step, point.value) for point in client.get_metric_history(run.run_id, "loss")] == [(0, 2), (1, 1)]
    assert {
        "stage": "train", "dvc_stage": "by hand", "protocol": "grouped", "data_hash": HASH, "git_commit": "unknown"
    }.items() <= kept.data.tags.items()  # fmt: skip
    assert [item.path for item in client.list_artifacts(run.run_id)] == ["figure.txt", "plots"]
    assert [item.path for item in client.list_artifacts(run.run_id, "plots")] == ["plots/one.txt"]
    assert list((tmp_path / ".hscc/runs").iterdir()) == []


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_failed_run_is_resumed(error: type[BaseException], status: str, client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(error), stage_run("train", "a", PARAMS, workspace=tmp_path) as first:
        raise error
    assert client.get_run(first.run_id).info.status == status
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as second:
        assert client.get_run(first.run_id).info.status == "RUNNING"
    assert second.run_id == first.run_id
    assert client.get_run(first.run_id).info.status == "FINISHED"


def statuses(client: MlflowClient) -> list[str]:
    """How the runs ended, the latest first."""
    return [run.info.status for run in client.search_runs([client.get_experiment_by_name("hscc").experiment_id])]


def test_a_killed_run_is_resumed(client: MlflowClient, tmp_path: Path) -> None:
    kill_a_run(tmp_path, PARAMS)
    with stage_run("train", "k", PARAMS, workspace=tmp_path) as run:
        run.metrics({"loss": 1.0}, step=1)
    assert [point.step for point in client.get_metric_history(run.run_id, "loss")] == [0, 1]


def test_a_killed_run_is_ended_by_a_job_with_other_parameters(client: MlflowClient, tmp_path: Path) -> None:
    before = statuses(client)
    kill_a_run(tmp_path, PARAMS)
    assert statuses(client) == ["RUNNING", *before]
    with stage_run("train", "k", {**PARAMS, "epochs": 9}, workspace=tmp_path):
        pass
    assert statuses(client) == ["FINISHED", "KILLED", *before]


def test_a_finished_run_is_not_resumed(client: MlflowClient, tmp_path: Path) -> None:
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as first:
        pass
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as second:
        pass
    assert first.run_id != second.run_id


@pytest.mark.parametrize("change", ["parameters", "data"])
def test_another_job_does_not_resume_a_run(change: str, client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(ValueError), stage_run("train", "a", PARAMS, workspace=tmp_path) as first:
        raise ValueError
    if change == "data":
        (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {HASH}\n  path: data\n")
    params = {**PARAMS, "epochs": 4} if change == "parameters" else PARAMS
    with stage_run("train", "a", params, workspace=tmp_path) as second:
        pass
    assert first.run_id != second.run_id
    assert client.get_run(first.run_id).info.status == "FAILED"


@pytest.mark.parametrize("note", ["not json", "[]", '{"digest": 1}'])
def test_a_damaged_note_costs_only_the_resumption(note: str, client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / ".hscc/runs").mkdir(parents=True)
    (tmp_path / ".hscc/runs/train-a.json").write_text(note)
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as run:
        assert only_note(tmp_path)["run_id"] == run.run_id


def test_an_emptied_store_costs_only_the_resumption(client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(ValueError), stage_run("train", "a", PARAMS, workspace=tmp_path) as first:
        raise ValueError
    note = tmp_path / ".hscc/runs/train-a.json"
    note.write_text(note.read_text().replace(first.run_id, "0" * 32))
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as second:
        pass
    assert second.run_id not in (first.run_id, "0" * 32)


def test_the_store_is_in_the_workspace_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org")
    assert tracking_uri(tmp_path) == "http://example.org"


def test_artifacts_of_the_default_store_stay_in_the_workspace(empty_store: Path, tmp_path: Path) -> None:
    shutil.copy(empty_store, tmp_path)
    with stage_run("train", "a", {}, workspace=tmp_path) as run:
        (tmp_path / "figure.txt").write_text("x")
        run.artifact(tmp_path / "figure.txt")
    assert (tmp_path / "mlflow.db").is_file()
    assert (tmp_path / "mlruns" / run.run_id / "artifacts/figure.txt").read_text() == "x"


def test_an_unusable_address_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
    with (
        pytest.raises(HSCCError, match=r"nonsense://here cannot be opened.*MLFLOW_TRACKING_URI"),
        stage_run("train", "a", {}, workspace=tmp_path),
    ):
        pass


def test_the_data_set_is_an_input_by_its_hash(client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {HASH}\n  path: data\n")
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as run:
        pass
    (found,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("data", HASH)
    assert json.loads(found.dataset.source)["tags"]["dvc.md5"] == HASH


def test_system_metrics_are_recorded_unless_switched_off(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.02")
    name = "system/system_memory_usage_percentage"
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as run:
        deadline = time.monotonic() + 300
        while len(client.get_metric_history(run.run_id, name)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
    points = client.get_metric_history(run.run_id, name)
    assert len(points) > 1
    assert all(0 < point.value < 100 for point in points)
    assert [point.step for point in points] == list(range(len(points)))
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    with stage_run("train", "b", PARAMS, workspace=tmp_path) as run:
        pass
    assert client.get_run(run.run_id).data.metrics == {}


def test_a_gpu_is_among_the_system_metrics(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers = {
        "nvmlInit": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "the only one",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=20e9, total=80e9),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=90),
        "nvmlDeviceGetPowerUsage": 350_000,
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as run:
        pass
    metrics = client.get_run(run.run_id).data.metrics
    assert metrics["system/gpu_0_memory_usage_percentage"] == 25.0
    assert metrics["system/gpu_0_utilization_percentage"] == 90.0


def test_a_run_is_a_child_of_the_run_that_the_environment_names(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DVC_STAGE", "evaluate")
    with stage_run("pipeline", "nightly", {}, workspace=tmp_path) as pipeline:
        monkeypatch.setenv(PARENT_RUN, pipeline.run_id)
        with stage_run("evaluate", "grouped", {}, workspace=tmp_path) as stage:
            tags = {"mlflow.parentRunId": stage.run_id}
            with stage_run("evaluate", "hscc-macs6-seed0", {}, tags, tmp_path) as cell:
                pass
    assert client.get_run(stage.run_id).data.tags["mlflow.parentRunId"] == pipeline.run_id
    assert client.get_run(cell.run_id).data.tags["mlflow.parentRunId"] == stage.run_id
    assert client.get_run(cell.run_id).data.tags["dvc_stage"] == "evaluate"


def test_reports_name_the_run_of_a_job(client: MlflowClient, tmp_path: Path) -> None:
    with stage_run("evaluate", "grouped", {}, workspace=tmp_path) as run:
        pass
    note = json.loads((tmp_path / "reports/runs/evaluate-grouped.json").read_text())
    assert note["run_id"] == run.run_id
    assert note["experiment"] == EXPERIMENT


def test_no_secret_is_recorded(client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "hunter2-and-more")
    params = {"where": "s3://key:hunter2@bucket/x", "note": "it is hunter2-and-more"}
    with stage_run("train", "a", params, {"from": "https://u:hunter2@example.org/d?token=hunter2"}, tmp_path) as run:
        pass
    kept = client.get_run(run.run_id).data
    assert kept.params == {"where": "s3://***@bucket/x", "note": "it is ***"}
    assert kept.tags["from"] == "https://***@example.org/d?token=***"
    assert "hunter2" not in json.dumps([kept.params, kept.tags])


def test_the_next_run_of_a_stage_ends_a_killed_one_that_is_not_resumable(client: MlflowClient, tmp_path: Path) -> None:
    killed = kill_a_run(tmp_path, {}, "pipeline", resumable=False)
    assert client.get_run(killed).info.status == "RUNNING"
    with stage_run("pipeline", "sweep", {}, workspace=tmp_path, resumable=False) as run:
        run.tags({"outcome": "went on"})
    dead, done = client.get_run(killed), client.get_run(run.run_id)
    assert dead.info.status == "KILLED"
    assert dead.info.end_time <= done.info.start_time
    assert (done.info.status, done.data.tags["outcome"]) == ("FINISHED", "went on")
    assert list((tmp_path / ".hscc/runs").iterdir()) == list((tmp_path / ".hscc/tracking").iterdir()) == []


def test_a_living_run_is_not_ended_by_another(client: MlflowClient, tmp_path: Path) -> None:
    with (
        stage_run("pipeline", "nightly", {}, workspace=tmp_path, resumable=False) as first,
        stage_run("pipeline", "nightly", {}, workspace=tmp_path, resumable=False) as second,
    ):
        assert client.get_run(first.run_id).info.status == "RUNNING"
    assert [client.get_run(run.run_id).info.status for run in (first, second)] == ["FINISHED", "FINISHED"]


def test_a_job_may_end_as_failed_without_an_exception(client: MlflowClient, tmp_path: Path) -> None:
    with stage_run("pipeline", "nightly", {}, workspace=tmp_path, resumable=False) as run:
        run.status = "FAILED"
    assert client.get_run(run.run_id).info.status == "FAILED"
    assert list((tmp_path / ".hscc/runs").iterdir()) == []


def test_a_resumed_run_is_a_child_of_the_pipeline_that_resumed_it(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipelines = []
    for error in (ValueError, None):
        with stage_run("pipeline", "nightly", {}, workspace=tmp_path, resumable=False) as pipeline:
            monkeypatch.setenv(PARENT_RUN, pipeline.run_id)
            with contextlib.suppress(ValueError), stage_run("train", "a", PARAMS, workspace=tmp_path) as stage:
                if error:
                    raise error
        pipelines.append(pipeline.run_id)
        monkeypatch.delenv(PARENT_RUN)
    assert pipelines[0] != pipelines[1]
    assert client.get_run(stage.run_id).data.tags["mlflow.parentRunId"] == pipelines[1]
