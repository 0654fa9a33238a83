"""Prefect and MLflow on a real PostgreSQL, as a team would run them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.in_process import dvc

from .conftest import CELLS
from .stack import Stack, free_port, wait_for
from .test_pipeline import CLEAN

ROOT_USER = 0  # as whom PostgreSQL refuses to run


def program(name: str) -> str | None:
    """A program of the newest PostgreSQL, which Debian keeps off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(found[-1]) if found else shutil.which(name)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Address of a fresh server with the databases prefect and mlflow: user:password@host:port."""
    pytest.importorskip("psycopg2", reason="the extra 'postgres' is not installed")
    initdb, serve, psql = program("initdb"), program("postgres"), program("psql")
    if initdb is None or serve is None or psql is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    root = os.geteuid() == ROOT_USER
    if root and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL does not run as root, and runuser is not installed")
    as_user = ["runuser", "-u", "postgres", "--"] if root else []
    folder = tempfile.mkdtemp(prefix="hscc-postgres-")  # pytest's own folders admit their owner alone
    if root:
        shutil.chown(folder, "postgres")
    port = str(free_port())
    data = f"{folder}/data"
    subprocess.run(
        [*as_user, initdb, "-D", data, "-U", "hscc", "--auth=trust"], cwd=folder, check=True, capture_output=True
    )
    command = [*as_user, serve, "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-k", folder]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    reach = [psql, "-h", "127.0.0.1", "-p", port, "-U", "hscc", "-d", "postgres", "-c"]
    try:
        wait_for(lambda: subprocess.run([*reach, "select 1"], capture_output=True, check=False).returncode == 0)
        for name in ("prefect", "mlflow"):
            subprocess.run([*reach, f"create database {name}"], check=True, capture_output=True)
        yield f"hscc@127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(folder)


@pytest.mark.timeout(1800)
def test_prefect_keeps_its_records_in_postgres(postgres: str, workspace: Path, tmp_path: Path) -> None:
    url = f"postgresql+asyncpg://{postgres}/prefect"
    stack = Stack(tmp_path / "prefect", PREFECT_API_DATABASE_CONNECTION_URL=url)
    try:
        stack.start_server()
        flow = [sys.executable, "-m", "flows.pipeline"]
        subprocess.run(flow, cwd=workspace, env=stack.environment, check=True)
        runs = {run.name: run.state.name for run in stack.client.read_flow_runs() if run.state}
        assert set(runs.values()) == {"Completed"} and {"first", "sweep", "last"} <= set(runs)
        stages = dict.fromkeys(("first", *CELLS, "last"), "Completed")

        def recorded() -> bool:  # a little later
            return stages.items() <= {run.name: run.state_name for run in stack.client.read_task_runs()}.items()

        wait_for(recorded)
    finally:
        stack.stop()
    assert dvc(workspace, "status") == CLEAN
    assert not list(stack.home.glob("*.db"))  # no SQLite beside it


@pytest.mark.timeout(1800)
def test_mlflow_keeps_its_records_in_postgres(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    store = f"postgresql://{postgres}/mlflow"
    command = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", store]
    with (tmp_path / "mlflow.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command, "--artifacts-destination", str(tmp_path / "artifacts")],
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    from mlflow import MlflowClient

    from hscc.pipeline.tracking import stage_run

    def up() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False

    try:
        wait_for(up, why=lambda: (tmp_path / "mlflow.log").read_text(errors="replace"))
        with stage_run("train", "grouped", {"epochs": 3}, workspace=tmp_path) as tracked:
            tracked.metrics({"accuracy": 0.5}, step=1)
        kept = MlflowClient(store).get_run(tracked.run_id)  # read from the database, past the server
    finally:
        server.terminate()
        server.wait(60)
    assert kept.data.metrics == {"accuracy": 0.5}
    assert kept.data.params["epochs"] == "3"
    assert kept.info.status == "FINISHED"
