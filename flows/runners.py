"""Where stages run: threads of the flow's own process, or a Dask or Ray cluster that sees the same files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from hscc.errors import HSCCError


class Runner(StrEnum):
    """Names of the places where stages run."""

    local = "local"
    dask = "dask"
    ray = "ray"


@contextmanager
def task_runner(runner: Runner, address: str | None, workers: int) -> Iterator[TaskRunner[Any]]:
    """Connect to where stages run.

    Parameters
    ----------
    runner : Runner
        Which kind.
    address : str, optional
        Of the cluster, such as ``tcp://10.0.0.5:8786`` (Dask) or ``ray://10.0.0.5:10001`` (Ray).
    workers : int
        Most stages at once.

    Yields
    ------
    TaskRunner
        For the subflows; each makes its own copy.

    Raises
    ------
    HSCCError
        If the cluster cannot be reached, or the extra that speaks to it is not installed.
    """
    if runner is Runner.local:
        yield ThreadPoolTaskRunner(max_workers=workers)
        return
    if not address:
        raise HSCCError(f"--runner {runner} needs --address, the address of the cluster's scheduler.")
    connect = _dask if runner is Runner.dask else _ray
    with connect(address) as connected:
        yield connected


@contextmanager
def _dask(address: str) -> Iterator[TaskRunner[Any]]:
    try:
        from distributed import Client
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise HSCCError("--runner dask needs the extra 'dask'; run: pip install 'hscc[dask]'.") from error
    try:
        Client(address, set_as_default=False, timeout="10s").close()
    except OSError as error:
        raise HSCCError(f"no Dask scheduler answers at {address} ({error}); fix --address or start it.") from error
    yield DaskTaskRunner(address=address)


@contextmanager
def _ray(address: str) -> Iterator[TaskRunner[Any]]:
    try:
        import ray
        from prefect_ray import RayTaskRunner
    except ImportError as error:
        raise HSCCError("--runner ray needs the extra 'ray'; run: pip install 'hscc[ray]'.") from error
    try:
        # One connection a process, made here: the first subflow to end would else close it under the others.
        ray.init(address=address, namespace="prefect", log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise HSCCError(f"no Ray cluster answers at {address} ({error}); fix --address or start it.") from error
    try:
        yield RayTaskRunner(address=address)
    finally:
        ray.shutdown()
