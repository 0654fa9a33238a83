"""A small graph of shell stages: pinned data, one stage, a matrix of four cells, one stage over all cells."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.schemas.actions import WorkPoolCreate

from tests.in_process import dvc

from .stack import ROOT, Stack

GRAPH = """
stages:
  first:
    cmd: cp data/words.txt first.txt && echo run >> log-first
    deps: [data]
    outs:
      - first.txt:
          persist: true
  sweep:
    matrix:
      method: ${methods}
      budget: ${budgets}
    cmd:
      - mkdir -p cells
      - cat first.txt > cells/${item.method}-${item.budget}.txt && echo run >> log-${item.method}-${item.budget}
    deps: [first.txt]
    params: [shout]
    outs:
      - cells/${item.method}-${item.budget}.txt
  last:
    cmd: cat cells/* > last.txt && echo run >> log-last
    deps: [cells]
    metrics:
      - last.txt:
          cache: false
"""
PARAMS = "methods: [x, y]\nbudgets: [3, 6.5]\nshout: false\n"
CELLS = ("sweep@x-3", "sweep@x-6.5", "sweep@y-3", "sweep@y-6.5")


@pytest.fixture(scope="package", autouse=True)
def server() -> Iterator[None]:
    """End the server that Prefect starts for the first flow once no test needs it.

    Flows send no heartbeats to it: each would wait for up to a second for the thread that does.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect.flow_engine._send_heartbeats", lambda *_, **__: contextlib.nullcontext())
        yield
    module = sys.modules.get("prefect.server.api.server")
    if module is None or not module.SubprocessASGIServer._instances:
        return  # none was started, and draining logs would start one
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.instance().drain()
    EventsWorker.drain_all()
    module.SubprocessASGIServer().stop()


def times_run(workspace: Path) -> dict[str, int]:
    """How often each stage's command has run, by its log's name."""
    return {log.name.removeprefix("log-"): len(log.read_text().split()) for log in sorted(workspace.glob("log-*"))}


@pytest.fixture(scope="session")
def template(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    shutil.copy(empty_store, folder)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    dvc(folder, "init", "--quiet")
    (folder / "data").mkdir()
    (folder / "data/words.txt").write_text("one\n")
    (folder / "dvc.yaml").write_text(GRAPH)
    (folder / "params.yaml").write_text(PARAMS)
    dvc(folder, "add", "--quiet", "data")
    return folder


def copy(folder: Path, to: Path) -> Path:
    subprocess.run(["cp", "-R", str(folder), str(to)], check=True)
    return to


def commit(workspace: Path) -> None:
    for command in (["add", "--all"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "run"]):
        subprocess.run(["git", *command], cwd=workspace, check=True)


@pytest.fixture
def workspace(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the graph, nothing of it run yet; the current folder."""
    folder = copy(template, tmp_path / "workspace")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def ran_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from flows.pipeline import main

    folder = copy(template, tmp_path_factory.mktemp("ran") / "workspace")
    main(folder)
    return folder


@pytest.fixture
def ran(ran_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the graph after one run of the flow; the current folder."""
    folder = copy(ran_template, tmp_path / "workspace")
    monkeypatch.chdir(folder)
    return folder


def run_and_commit(folder: Path) -> Path:
    """Give the small graph the parameters' real names, run it and commit it."""
    graph = (folder / "dvc.yaml").read_text()
    (folder / "dvc.yaml").write_text(
        graph.replace(
            "      method: ${methods}\n      budget: ${budgets}\n", "      cell: ${compress.cells}\n"
        ).replace("${item.method}-${item.budget}", "${item.cell}")
    )
    (folder / "params.yaml").write_text(
        "compress:\n  cells: [x-3, x-6.5, y-3, y-6.5] # kept\ninsight:\n  cells: [y]\nshout: false\n"
    )
    (folder / ".gitignore").write_text(
        "/data\n/cells\n/first.txt\n/.hscc\n/log-*\n/mlflow.db\n/mlruns\n/reports/runs\n"
    )
    dvc(folder, "repro", "--quiet")
    commit(folder)
    return folder


@pytest.fixture(scope="session")
def committed_template(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_and_commit(copy(template, tmp_path_factory.mktemp("committed") / "workspace"))


@pytest.fixture
def committed(committed_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what `run_and_commit` leaves; the current folder."""
    folder = copy(committed_template, tmp_path / "workspace")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A server, a worker, the work pool and the deployments, for all tests; one that kills a part starts it again.

    Nothing runs by its schedule unless a test asks for it, whatever the hour; `deployed` keeps what was deployed.
    """
    made = Stack(tmp_path_factory.mktemp("prefect"))
    try:
        made.start_server()
        made.client.create_work_pool(WorkPoolCreate(name="hscc", type="process"))  # the worker says how it starts runs
        for name in ("dvc.yaml", "params.yaml", "sweeps.yaml"):
            shutil.copyfile(ROOT / name, made.home / name)
        made.deploy(made.home, "--all")
        made.pause_schedules()
        made.start_worker()
        yield made
    finally:
        made.stop()
