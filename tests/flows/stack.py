"""A real Prefect server and worker on loopback, as processes of their own that a test may kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import FlowRun
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.responses import DeploymentResponse

ROOT = Path(__file__).parents[2]
UP = 900.0  # seconds until what must come is given up on; a busy machine may need many
UNTIL_GO = "for i in $(seq 9000); do test -e go && break; sleep 0.1; done"  # of a stage, in its workspace


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(what: Callable[[], Any], seconds: float = UP, why: Callable[[], str] = str) -> Any:
    deadline, pause = time.monotonic() + seconds, 0.1
    while not (found := what()):
        assert time.monotonic() < deadline, f"gave up after {seconds:.0f} s: {why()}"
        time.sleep(pause)
        pause = min(1.0, 1.3 * pause)  # each question to a server takes time from what it waits for
    return found


class Stack:
    """Server, worker and client over one folder of state."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
            "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",  # automations, of which there are none
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_PREFETCH_SECONDS": "1",
            "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
            **settings,
        }
        self.client = SyncPrefectClient(self.url)
        self.server: subprocess.Popen[bytes] | None = None
        self.worker: subprocess.Popen[bytes] | None = None
        self.deployed: dict[str, DeploymentResponse] = {}  # by name, as `prefect deploy` made them

    def start_server(self) -> None:
        self.server = self._start("server", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        wait_for(self._is_up, why=lambda: self.said("server"))

    def start_worker(self) -> None:
        self.worker = self._start("worker", "worker", "start", "--pool", "hscc", "--type", "process")

    def stop(self) -> None:
        for process in (self.worker, self.server):
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def prefect(self, folder: Path, *arguments: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=folder, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self, workspace: Path, *arguments: str, prefect_file: Path = ROOT / "prefect.yaml") -> None:
        self.prefect(workspace, "deploy", "--prefect-file", str(prefect_file), *arguments)

    def pause_schedules(self) -> None:
        """Keep what was deployed, and let no schedule start a run into another test's workspace."""
        self.deployed = {made.name: made for made in self.client.read_deployments()}
        for made in self.deployed.values():
            for schedule in made.schedules:
                self.client.update_deployment_schedule(made.id, schedule.id, active=False)

    def move(self, workspace: Path, *deployments: str) -> None:
        """Point deployments at a workspace, as `prefect deploy` in it does; that takes seconds."""
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(workspace)}}]
        for name in deployments:
            self.client.update_deployment(self.deployed[name].id, DeploymentUpdate(pull_steps=steps))

    def cancel(self, run: UUID) -> None:
        """What the button of the UI does."""
        self.client.set_flow_run_state(run, State(type=StateType.CANCELLING))

    def run(self, deployment: str, flow: str = "pipeline", **parameters: Any) -> UUID:
        found = self.client.read_deployment_by_name(f"{flow}/{deployment}")
        return self.client.create_flow_run_from_deployment(found.id, parameters=parameters).id

    def state(self, run: UUID) -> str:
        state = self.client.read_flow_run(run).state
        return state.name if state else "none"

    def ended(self, run: UUID, seconds: float = UP) -> FlowRun:
        def final() -> FlowRun | None:
            read = self.client.read_flow_run(run)
            return read if read.state and read.state.is_final() else None

        return wait_for(final, seconds, lambda: f"{self.state(run)}: {self.logs(run)}")

    def logs(self, run: UUID) -> str:
        family = [run, *(child.id for child in self.children(run))]
        lines: list[str] = []
        for member in family:
            wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[member]))
            lines += [entry.message for entry in self.client.read_logs(wanted, limit=200)]
        return "\n".join(lines)

    def children(self, run: UUID) -> list[FlowRun]:
        wanted = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run]))
        return self.client.read_flow_runs(flow_run_filter=wanted)

    def artifacts(self, run: UUID) -> dict[str, Any]:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        return {str(made.key): made for made in self.client.read_artifacts(artifact_filter=wanted)}

    def runs_of(self, deployment: str) -> list[FlowRun]:
        found = self.client.read_deployment_by_name(f"pipeline/{deployment}")
        every = self.client.read_flow_runs(limit=200)
        return [run for run in every if run.deployment_id == found.id]

    def said(self, process: str) -> str:
        return (self.home / f"{process}.log").read_text(errors="replace")[-3000:]

    def _start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _is_up(self) -> bool:
        assert self.server is not None and self.server.poll() is None, self.said("server")
        try:
            return httpx.get(f"{self.url}/health", timeout=2).is_success
        except httpx.HTTPError:
            return False
