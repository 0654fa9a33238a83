import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from hscc.errors import DataError, HSCCError
from hscc.tracking import EXPERIMENT, data_hash, git_commit, stage_run, tracking_uri

HASH = "0123456789abcdef0123456789abcdef.dir"
PARAMS = {"epochs": 3, "finetune": {"rate": 0.1}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One store for all tests here: making its tables is the slow part."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"
    MlflowClient(tracking_uri=uri).create_experiment(
        EXPERIMENT, artifact_location=tmp_path_factory.mktemp("artifacts").as_uri()
    )
    yield uri


@pytest.fixture
def client(store: str, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    return MlflowClient(tracking_uri=store)


def only_memo(workspace: Path) -> dict[str, Any]:
    (memo,) = (workspace / ".hscc/runs").glob("*.json")
    return json.loads(memo.read_text())


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


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
    assert kept.data.metrics == {"loss": 1.0}
    assert [(point.step, point.value) for point in client.get_metric_history(run.run_id, "loss")] == [(0, 2), (1, 1)]
    tags = {key: kept.data.tags[key] for key in ("stage", "protocol", "data_hash", "git_commit")}
    assert tags == {"stage": "train", "protocol": "grouped", "data_hash": HASH, "git_commit": "unknown"}
    assert [item.path for item in client.list_artifacts(run.run_id)] == ["figure.txt", "plots"]
    assert [item.path for item in client.list_artifacts(run.run_id, "plots")] == ["plots/one.txt"]
    assert list((tmp_path / ".hscc/runs").iterdir()) == []


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_failed_run_is_continued(
    error: type[BaseException], status: str, client: MlflowClient, tmp_path: Path
) -> None:
    with pytest.raises(error), stage_run("train", "a", PARAMS, workspace=tmp_path) as first:
        raise error
    assert client.get_run(first.run_id).info.status == status
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as second:
        assert client.get_run(first.run_id).info.status == "RUNNING"
    assert second.run_id == first.run_id
    assert client.get_run(first.run_id).info.status == "FINISHED"


def test_a_killed_process_is_continued(client: MlflowClient, tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from hscc.tracking import stage_run\n"
        f"with stage_run('train', 'k', {PARAMS!r}, workspace=Path(sys.argv[1])) as run:\n"
        "    run.metrics({'loss': 2.0}, step=0)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=dict(os.environ), check=False)
    assert killed.returncode == -signal.SIGKILL
    with stage_run("train", "k", PARAMS, workspace=tmp_path) as run:
        run.metrics({"loss": 1.0}, step=1)
    assert [point.step for point in client.get_metric_history(run.run_id, "loss")] == [0, 1]


def test_a_finished_run_is_not_continued(client: MlflowClient, tmp_path: Path) -> None:
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as first:
        pass
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as second:
        pass
    assert first.run_id != second.run_id


@pytest.mark.parametrize("change", ["parameters", "data"])
def test_another_job_does_not_continue_a_run(change: str, client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(ValueError), stage_run("train", "a", PARAMS, workspace=tmp_path) as first:
        raise ValueError
    if change == "data":
        (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {HASH}\n  path: data\n")
    params = {**PARAMS, "epochs": 4} if change == "parameters" else PARAMS
    with stage_run("train", "a", params, workspace=tmp_path) as second:
        pass
    assert first.run_id != second.run_id


@pytest.mark.parametrize("memo", ["not json", "[]", '{"digest": 1}'])
def test_a_damaged_memo_costs_only_the_continuation(memo: str, client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / ".hscc/runs").mkdir(parents=True)
    (tmp_path / ".hscc/runs/train-a.json").write_text(memo)
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as run:
        assert only_memo(tmp_path)["run_id"] == run.run_id


def test_an_emptied_store_costs_only_the_continuation(client: MlflowClient, tmp_path: Path) -> None:
    with pytest.raises(ValueError), stage_run("train", "a", PARAMS, workspace=tmp_path) as first:
        raise ValueError
    memo = tmp_path / ".hscc/runs/train-a.json"
    memo.write_text(memo.read_text().replace(first.run_id, "0" * 32))
    with stage_run("train", "a", PARAMS, workspace=tmp_path) as second:
        pass
    assert second.run_id not in (first.run_id, "0" * 32)


def test_the_store_is_in_the_workspace_unless_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.org")
    assert tracking_uri(tmp_path) == "http://example.org"


def test_artifacts_of_the_default_store_stay_in_the_workspace(tmp_path: Path) -> None:
    with stage_run("train", "a", {}, workspace=tmp_path) as run:
        (tmp_path / "figure.txt").write_text("x")
        run.artifact(tmp_path / "figure.txt")
    assert (tmp_path / "mlflow.db").is_file()
    assert (tmp_path / "mlruns" / run.run_id / "artifacts/figure.txt").read_text() == "x"


def test_a_store_that_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
    with (
        pytest.raises(HSCCError, match=r"nonsense://here cannot be opened.*MLFLOW_TRACKING_URI"),
        stage_run("train", "a", {}, workspace=tmp_path),
    ):
        pass


def test_data_hash_is_read_from_the_pin(tmp_path: Path) -> None:
    assert data_hash(tmp_path) == "unknown"
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {HASH}\n  path: data\n")
    assert data_hash(tmp_path) == HASH


@pytest.mark.parametrize("content", ["", "outs: []", "outs:\n- path: data\n", "a: [", "- 1"])
def test_a_damaged_pin_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text(content)
    with pytest.raises(DataError, match=r"data\.dvc holds no outs\[0\]\.md5"):
        data_hash(tmp_path)


def test_git_commit_tells_dirty_code_from_fresh_results(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    git(tmp_path, "init", "--quiet")
    (tmp_path / "reports").mkdir()
    for name in ("code.py", "dvc.lock", "reports/results.csv"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("2")
    (tmp_path / "dvc.lock").write_text("2")
    (tmp_path / "reports/results.csv").write_text("2")
    assert git_commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"
    assert git_commit(tmp_path / "reports") == f"{commit}-dirty"
