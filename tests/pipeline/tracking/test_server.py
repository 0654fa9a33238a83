"""A real MLflow server, killed under a run that records to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from hscc.pipeline.cli.main import app
from hscc.pipeline.tracking import stage_run
from hscc.pipeline.tracking.journal import count_waiting

UP = 900.0  # seconds a server may take on a busy machine


class Server:
    """`mlflow server` on loopback over one SQLite file, which a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        places = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "./files"]
        command = ["server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", *places]
        unset = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", *command],
                cwd=self.folder, env=unset, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + UP
        while not self._is_up():
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()[-3000:]
            time.sleep(0.2)

    def kill(self) -> None:
        """kill -9, of its workers too."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False


@pytest.fixture
def server(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_store, folder)
    made = Server(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    try:
        made.start()
        yield made
    finally:
        made.kill()


def test_what_a_killed_server_missed_is_delivered_by_hscc_track(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").write_text("<p>")
    with stage_run("train", "grouped", {"epochs": 2}, workspace=tmp_path) as run:
        run.metrics({"loss": 2.0}, step=0)
        run_id = run.run_id
        assert run.page == f"{server.url}/#/experiments/1/runs/{run_id}"
        server.kill()
        run.metrics({"loss": 1.0}, step=1)
        run.artifact(tmp_path / "report.html")
    warned = capsys.readouterr().err
    assert warned.count("warning") == 1
    assert f"the MLflow store {server.url} does not answer" in warned
    assert count_waiting(tmp_path) == 1

    missed = CliRunner().invoke(app, ["track", "--workspace", str(tmp_path)])
    assert missed.exit_code == 1
    assert "1 of 1 runs keep waiting" in missed.output

    server.start()
    sent = CliRunner().invoke(app, ["track", "--workspace", str(tmp_path)])
    assert sent.output.strip() == f"train-grouped: run {run_id}"
    client = MlflowClient(server.url)
    assert client.get_run(run_id).info.status == "FINISHED"
    assert [point.value for point in client.get_metric_history(run_id, "loss")] == [2.0, 1.0]
    assert [entry.path for entry in client.list_artifacts(run_id)] == ["report.html"]
    assert count_waiting(tmp_path) == 0
