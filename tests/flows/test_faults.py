"""kill -9 of each part of a running deployment: nothing is lost and the next run finishes."""

import datetime
import json
import os
import re
import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient

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


def pid(workspace: Path, name: str, stack: Stack) -> int:
    path = workspace / name
    text = wait_for(lambda: path.is_file() and path.read_text().strip(), why=lambda: stack.said("worker"))
    return int(text)


def flow_pid(workspace: Path) -> int:
    found = re.search(r"process (\d+) on", (workspace / ".hscc/flow.lock").read_text())
    assert found is not None
    return int(found.group(1))


def recorded(workspace: Path) -> list[str]:
    """How the MLflow runs of the runs so far stand, the earliest first."""
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    return [run.info.status for run in client.search_runs(["1"], order_by=["start_time ASC"])]


def finish(stack: Stack, workspace: Path) -> None:
    """Let the next run go through and check that it did what was left, once."""
    (workspace / "go").touch()
    ended = stack.ended(stack.run("nightly"))
    assert ended.state is not None
    assert ended.state.is_completed(), ended.state.message
    assert times_run(workspace) == ONCE
    assert dvc(workspace, "status") == CLEAN


@pytest.mark.timeout(1800)
def test_cancelling_in_the_ui_ends_the_commands(stack: Stack, slow: Path) -> None:
    run = stack.run("nightly")
    child = pid(slow, "pid-x-3", stack)
    stack.cancel(run)
    assert ends(child)
    state = stack.ended(run).state
    assert state is not None
    assert state.is_cancelled(), state
    assert recorded(slow) == ["KILLED"]
    finish(stack, slow)


@pytest.mark.timeout(1800)
def test_a_killed_cell_fails_alone(stack: Stack, slow: Path) -> None:
    run = stack.run("nightly")
    os.kill(pid(slow, "pid-x-3", stack), signal.SIGKILL)
    (slow / "go").touch()
    state = stack.ended(run).state
    assert state is not None and state.message is not None
    assert state.is_failed()
    assert (
        "stage sweep@x-3 was killed by SIGKILL, by hand or for want of memory; run again to take it up" in state.message
    )
    assert "not begun: last" in state.message
    assert times_run(slow) == {name: 1 for name in ("first", "x-6.5", "y-3", "y-6.5")}
    finish(stack, slow)


@pytest.mark.timeout(1800)
def test_a_killed_flow_takes_its_commands_along_and_is_taken_up(stack: Stack, slow: Path) -> None:
    run = stack.run("nightly")
    child = pid(slow, "pid-x-3", stack)
    os.kill(flow_pid(slow), signal.SIGKILL)
    assert ends(child)
    state = stack.ended(run).state
    assert state is not None
    assert state.is_crashed(), state
    finish(stack, slow)
    assert recorded(slow) == ["KILLED", "FINISHED"]


@pytest.mark.timeout(1800)
def test_a_killed_worker_is_replaced(stack: Stack, slow: Path) -> None:
    run = stack.run("nightly")
    pid(slow, "pid-x-3", stack)
    assert stack.worker is not None
    stack.worker.kill()
    stack.worker.wait()
    (slow / "go").touch()
    state = stack.ended(run).state  # the flow is a process of its own
    stack.start_worker()
    assert state is not None
    assert state.is_completed(), state
    finish(stack, slow)


def five_minutes_pass(stack: Stack) -> None:
    """Age what the server holds a run's place by."""
    past = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)).isoformat()
    for path in (stack.home / "concurrency_leases").glob("*.json"):
        held = json.loads(path.read_text())
        aged = dict.fromkeys(held, past) if path.name == "expirations.json" else {**held, "expiration": past}
        path.write_text(json.dumps(aged))


@pytest.mark.timeout(1800)
def test_worker_and_flow_killed_together_keep_the_place_for_a_while(stack: Stack, slow: Path) -> None:
    run = stack.run("nightly")
    child = pid(slow, "pid-x-3", stack)
    assert stack.worker is not None
    stack.worker.kill()
    os.kill(flow_pid(slow), signal.SIGKILL)
    stack.worker.wait()
    assert ends(child)
    stack.start_worker()
    refused = stack.ended(stack.run("nightly")).state
    assert refused is not None and refused.is_cancelled()  # nobody is left to tell the server
    five_minutes_pass(stack)
    (slow / "go").touch()

    def goes_on() -> bool:
        state = stack.ended(stack.run("nightly")).state
        assert state is not None
        return state.is_completed()

    wait_for(goes_on, why=lambda: stack.said("server"))
    assert times_run(slow) == ONCE
    assert dvc(slow, "status") == CLEAN
    assert stack.state(run) == "Running"
    stack.client.delete_flow_run(run)


@pytest.mark.timeout(1800)
def test_a_run_outlives_its_server(stack: Stack, slow: Path) -> None:
    run = stack.run("nightly")
    pid(slow, "pid-x-3", stack)
    assert stack.server is not None
    stack.server.kill()
    stack.server.wait()
    (slow / "go").touch()
    wait_for(lambda: "x-3" in times_run(slow), why=lambda: stack.said("worker"))
    stack.start_server()
    state = stack.ended(run).state
    assert state is not None
    assert state.is_completed(), f"{state}\n{stack.logs(run)}"
    finish(stack, slow)
