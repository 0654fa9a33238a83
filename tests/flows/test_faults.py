"""kill -9 of each part of a running deployment: nothing is lost and the next run finishes.

One workspace goes through all of it, so that each run both proves that the damage before it is taken up and is the one
to be damaged next: a run of a deployment costs seconds of two processes.
"""

import datetime
import json
import os
import re
import signal
from pathlib import Path
from uuid import UUID

import pytest
from mlflow import MlflowClient
from prefect.client.schemas.objects import State

from tests.in_process import dvc

from .conftest import times_run
from .stack import UNTIL_GO, Stack, wait_for
from .test_commands import ends

ONCE = {"first": 1, "x-3": 1, "x-6.5": 1, "y-3": 1, "y-6.5": 1, "last": 1}
CLEAN = "Data and pipelines are up to date."


@pytest.fixture
def slow(stack: Stack, workspace: Path) -> Path:
    """The small graph deployed; its cells wait until a file `go` is there."""
    graph = workspace / "dvc.yaml"
    cell = f"echo $$ > pid-${{item.method}}-${{item.budget}} && {UNTIL_GO} && cat first.txt > cells/"
    graph.write_text(graph.read_text().replace("cat first.txt > cells/", cell))
    stack.move(workspace, "nightly")
    return workspace


def begin(stack: Stack, workspace: Path) -> tuple[UUID, int]:
    """Start a run, wait until a cell waits for `go`, and give the process of its command.

    A run that the server cancels, since another still has its place, is tried again.
    """
    path = workspace / "pid-x-3"
    for left in (path, workspace / "go"):
        left.unlink(missing_ok=True)

    def begun() -> UUID | None:
        run = stack.run("nightly")
        wait_for(lambda: is_cell_there() or stack.state(run) == "Cancelled", why=lambda: stack.said("worker"))
        return run if is_cell_there() else None

    def is_cell_there() -> bool:
        return path.is_file() and bool(path.read_text().strip())

    return wait_for(begun), int(path.read_text())


def flow_pid(workspace: Path) -> int:
    found = re.search(r"process (\d+) on", (workspace / ".hscc/flow.lock").read_text())
    assert found is not None
    return int(found.group(1))


def recorded(workspace: Path) -> list[str]:
    """How the MLflow runs of the runs so far stand, the earliest first."""
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    return [run.info.status for run in client.search_runs(["1"], order_by=["start_time ASC"])]


def five_minutes_pass(stack: Stack) -> None:
    """Age what the server holds a run's place by."""
    past = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)).isoformat()
    for path in (stack.home / "concurrency_leases").glob("*.json"):
        held = json.loads(path.read_text())
        aged = dict.fromkeys(held, past) if path.name == "expirations.json" else {**held, "expiration": past}
        path.write_text(json.dumps(aged))


def final(stack: Stack, run: UUID) -> State:
    state = stack.ended(run).state
    assert state is not None
    return state


@pytest.mark.timeout(3000)
def test_each_run_takes_up_what_the_one_before_it_left(stack: Stack, slow: Path) -> None:
    # Cancelled in the UI: its commands end.
    run, cell = begin(stack, slow)
    stack.cancel(run)
    assert ends(cell)
    state = final(stack, run)
    assert state.is_cancelled(), state
    assert recorded(slow) == ["KILLED"]

    # The flow is killed: it takes its commands along.
    run, cell = begin(stack, slow)
    os.kill(flow_pid(slow), signal.SIGKILL)
    assert ends(cell)
    state = final(stack, run)
    assert state.is_crashed(), state

    # Server and a cell are killed: the run goes on without a server, the cell fails alone.
    run, cell = begin(stack, slow)
    assert stack.server is not None
    stack.server.kill()
    stack.server.wait()
    os.kill(cell, signal.SIGKILL)
    (slow / "go").touch()
    wait_for(lambda: "x-6.5" in times_run(slow), why=lambda: stack.said("worker"))
    stack.start_server()
    state = final(stack, run)
    assert state.is_failed(), f"{state}\n{stack.logs(run)}"
    assert (
        "stage sweep@x-3 was killed by SIGKILL, by hand or for want of memory; run again to take it up"
        in str(state.message)
    )  # fmt: skip
    assert "not begun: last" in str(state.message)
    assert times_run(slow) == {name: 1 for name in ("first", "x-6.5", "y-3", "y-6.5")}
    assert recorded(slow) == ["KILLED", "KILLED", "FAILED"]

    # Worker and flow are killed together: nobody is left to tell the server, which keeps the place for a while.
    lost, cell = begin(stack, slow)  # by the worker that was without a server
    assert stack.worker is not None
    stack.worker.kill()
    os.kill(flow_pid(slow), signal.SIGKILL)
    stack.worker.wait()
    assert ends(cell)
    stack.start_worker()
    assert final(stack, stack.run("nightly")).is_cancelled()
    five_minutes_pass(stack)

    # The worker that replaced it is killed: the flow is a process of its own and completes.
    run, _ = begin(stack, slow)
    assert stack.state(lost) == "Running"
    stack.client.delete_flow_run(lost)
    stack.worker.kill()
    stack.worker.wait()
    (slow / "go").touch()
    state = final(stack, run)
    assert state.is_completed(), f"{state}\n{stack.logs(run)}"
    assert times_run(slow) == ONCE
    assert dvc(slow, "status") == CLEAN
    assert recorded(slow) == ["KILLED", "KILLED", "FAILED", "KILLED", "FINISHED"]
    stack.start_worker()
