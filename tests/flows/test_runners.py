"""The same graph on a cluster of two workers, over one checkout."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.pipeline import main
from flows.runners import Runner, task_runner
from hscc.errors import HSCCError
from tests.in_process import dvc

from .conftest import CELLS, times_run
from .stack import ROOT
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
def server_of_all(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the processes of a cluster use the server that Prefect has started for this one."""
    with get_client(sync_client=True) as client:
        client.hello()
        url = str(client.api_url)
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with temporary_settings({PREFECT_API_URL: url}):
        yield


@pytest.fixture
def dask(server_of_all: None) -> Iterator[str]:
    pytest.importorskip("prefect_dask", reason="the extra 'dask' is not installed")
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def ray(server_of_all: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("prefect_ray", reason="the extra 'ray' is not installed")
    from ray.cluster_utils import Cluster

    # Ray gives a node 30 s to start and takes no other number; on a busy machine it may need minutes.
    patient = SimpleNamespace(**{**vars(time), "monotonic": lambda: time.monotonic() / 20})
    monkeypatch.setattr("ray._private.node.time", patient)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("runner", [Runner.dask, Runner.ray])
def test_cells_run_on_both_workers(runner: Runner, marked: Path, request: pytest.FixtureRequest) -> None:
    main(marked, runner=runner, address=request.getfixturevalue(runner))
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


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("prefect_dask", reason="the extra 'dask' is not installed")
    import distributed

    real = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda *given, **named: real(*given, **{**named, "timeout": "1s"}))
    address = "tcp://127.0.0.1:1"
    said = f"no Dask scheduler answers at {address}"
    with pytest.raises(HSCCError, match=said), task_runner(Runner.dask, address, 1):
        pass


@pytest.mark.parametrize(("runner", "package"), [(Runner.dask, "prefect_dask"), (Runner.ray, "prefect_ray")])
def test_a_missing_extra_is_named(runner: Runner, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(HSCCError, match=rf"needs the extra '{runner}'"), task_runner(runner, "tcp://127.0.0.1:1", 1):
        pass
