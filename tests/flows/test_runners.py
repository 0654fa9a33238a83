"""The same graph on a cluster of two workers, over one checkout."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.runners import Runner, task_runner
from hscc.errors import HSCCError
from tests.in_process import dvc

from .conftest import CELLS, times_run
from .stack import Stack
from .test_pipeline import CLEAN, ONCE


@pytest.fixture
def marked(workspace: Path) -> Path:
    """The small graph; each cell notes the process that ran its command, and lasts until the other worker has one."""
    graph = workspace / "dvc.yaml"
    both = "for i in $(seq 3000); do test $(cat by-* | sort -u | wc -l) -ge 2 && break; sleep 0.1; done"
    note = f"ps -o ppid= -p $PPID > by-${{item.method}}-${{item.budget}} && {both} && cat first.txt > cells/"
    graph.write_text(graph.read_text().replace("cat first.txt > cells/", note))
    return workspace


@pytest.fixture
def dask(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("prefect_dask", reason="the extra 'dask' is not installed")
    from distributed import LocalCluster

    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def ray(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("prefect_ray", reason="the extra 'ray' is not installed")
    from ray.cluster_utils import Cluster

    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_cells_run_on_both_workers(runner: str, stack: Stack, marked: Path, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue(runner)
    done = subprocess.run(
        [sys.executable, "-m", "flows.pipeline", "--runner", runner, "--address", address],
        cwd=marked,
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert times_run(marked) == ONCE
    assert dvc(marked, "status") == CLEAN
    workers = {int(note.read_text()) for note in marked.glob("by-*")}
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert len(list(marked.glob("by-*"))) == len(CELLS)


@pytest.mark.parametrize("runner", [Runner.dask, Runner.ray])
def test_a_cluster_needs_an_address(runner: Runner) -> None:
    with pytest.raises(HSCCError, match=f"--runner {runner} needs --address"), task_runner(runner, None, 1):
        pass


def test_a_cluster_that_does_not_answer_is_named() -> None:
    pytest.importorskip("prefect_dask", reason="the extra 'dask' is not installed")
    address = "tcp://127.0.0.1:1"
    said = f"no Dask scheduler answers at {address}"
    with pytest.raises(HSCCError, match=said), task_runner(Runner.dask, address, 1):
        pass


@pytest.mark.parametrize(("runner", "package"), [(Runner.dask, "prefect_dask"), (Runner.ray, "prefect_ray")])
def test_a_missing_extra_is_named(runner: Runner, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(HSCCError, match=rf"needs the extra '{runner}'"), task_runner(runner, "tcp://127.0.0.1:1", 1):
        pass
