"""Run the graph of ``dvc.yaml`` under Prefect: ``python -m flows.pipeline``.

DVC decides what must run and keeps the outputs, Prefect runs it and remembers how it went. No server has to be up.
After it ``dvc status`` is clean; an interrupted or failed run is taken up by the next one, or by ``dvc repro``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import flow, get_run_logger
from prefect.client.schemas import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Completed, Failed

from flows import capacity, parameters
from flows.executor import Executor, fetch_data
from flows.experiments import kept_reports, name_of, prepare, save
from flows.full_disk import one_sentence
from flows.graph import is_missing, open_repo, read_graph, select
from flows.lock import BusyError, FlowLock, hold
from flows.publish import REPORTS, publish_reports
from flows.record import conclude, recorded
from flows.runners import Runner, task_runner
from hscc.errors import HSCCError
from hscc.pipeline import layout
from hscc.pipeline.data_spec import Protocol
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking import PARENT_RUN

TRACKING = "MLFLOW_TRACKING_URI"


@dataclass(frozen=True)
class Order:
    """What to bring up to date, and where."""

    targets: tuple[str, ...]
    force: bool
    runner: Runner
    address: str | None
    workers: int | None


@flow(name="pipeline", persist_result=False)
def pipeline(
    targets: parameters.Targets = (),
    cells: parameters.Cells = (),
    protocol: parameters.SplitProtocol = None,
    force: parameters.Force = False,
    max_workers: parameters.Workers = None,
    runner: parameters.Where = Runner.local,
    address: parameters.Address = None,
    sweep: parameters.NamedSweep = None,
) -> State[None]:
    """Bring the stages of the graph in the current folder up to date.

    With other cells or another protocol the run is a DVC experiment: the workspace stays as it is, and
    `dvc exp show` lists what came out.
    """
    workspace = Path.cwd()
    try:
        changed = parameters.overrides(cells, protocol, sweep)
        open_repo(workspace).close()
        with (
            one_sentence(workspace),
            hold(workspace, f"flow run {flow_run.get_name()}") as lock,
            recorded(workspace) as run,
        ):
            order = Order(targets, force, runner, address, max_workers)
            state = _run_changed(workspace, lock, order, changed, {PARENT_RUN: run.run_id})
            conclude(run, state)
            return state
    except BusyError as error:
        return Cancelled(message=redact(str(error)))
    except HSCCError as error:
        return Failed(message=redact(str(error)))


def _run_changed(
    workspace: Path, lock: FlowLock, order: Order, changed: Mapping[str, Any], variables: Mapping[str, str]
) -> State[None]:
    if not changed:
        state = _run(workspace, lock, order, variables)
        publish_reports(workspace / REPORTS)
        return state
    experiment = prepare(workspace, changed)
    get_run_logger().info("experiment %s: %s", experiment.name, changed)
    with contextlib.chdir(experiment.workspace):  # DVC names stages relative to the current folder
        state = _run(experiment.workspace, lock, order, {**variables, **experiment.variables})
    if not state.is_completed():
        publish_reports(experiment.workspace / REPORTS)
        return state
    save(experiment)
    publish_reports(kept_reports(workspace, experiment.name))  # the clone is gone
    return Completed(
        message=f"{state.message}; see 'dvc exp show', take it over with 'dvc exp apply {experiment.name}'"
    )


def _run(workspace: Path, lock: FlowLock, order: Order, variables: Mapping[str, str]) -> State[None]:
    with open_repo(workspace) as repo:
        stages = select(read_graph(repo), order.targets)
        for pinned in stages:
            if not pinned.commands and is_missing(pinned):
                fetch_data(pinned, lock, variables)
        need = max((stage.memory for stage in stages), default=1.0)
        workers = order.workers or _default_workers(order.runner, need, len(stages))
        get_run_logger().info("%d stages, at most %d at once (%s)", len(stages), workers, order.runner)
        if order.runner is not Runner.local and TRACKING in os.environ:
            variables = {TRACKING: os.environ[TRACKING], **variables}  # workers have an environment of their own
        with task_runner(order.runner, order.address, workers) as connected:
            return Executor(repo, stages, workers, connected, lock, variables, order.force).run()


def _default_workers(runner: Runner, need: float, stages: int) -> int:
    if runner is not Runner.local:
        return max(1, stages)  # the cluster queues what it has no room for
    return capacity.default_workers(need, capacity.cores(), capacity.available_memory())


def reports_of(
    workspace: Path,
    targets: tuple[str, ...] = (),
    cells: tuple[str, ...] = (),
    protocol: Protocol | None = None,
    sweep: str | None = None,
) -> Path:
    """Run the graph under other parameters, where that has not been done yet, and find its reports.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``; the current folder.
    targets, cells, protocol, sweep
        As in `pipeline`.

    Returns
    -------
    Path
        Folder of the experiment's reports.

    Raises
    ------
    HSCCError
        If the run fails, or the experiment cannot be made.
    """
    kept = kept_reports(workspace, name_of(workspace, parameters.overrides(cells, protocol, sweep)))
    if not (kept / layout.RESULTS_JSON.name).is_file():
        state = pipeline(targets, cells, protocol, sweep=sweep, return_state=True)
        if not state.is_completed():
            raise HSCCError(str(state.message))
    return kept


def main(
    workspace: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder that holds .dvc and dvc.yaml.")
    ] = Path("."),
    target: Annotated[
        list[str] | None,
        typer.Option(help="Stage, or cell of one, to bring up to date, with all it needs; repeatable."),
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option(help="Cell of the sweep instead of those of params.yaml, such as hscc-macs9-seed0; repeatable."),
    ] = None,
    protocol: Annotated[Protocol | None, typer.Option(help="Split protocol instead of that of params.yaml.")] = None,
    sweep: Annotated[str | None, typer.Option(help="Named sweep of sweeps.yaml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run every stage, stale or not.")] = False,
    max_workers: Annotated[
        int | None, typer.Option(min=1, help="Most stages side by side [default: cores, as memory allows].")
    ] = None,
    runner: Annotated[Runner, typer.Option(help="Where stages run.")] = Runner.local,
    address: Annotated[str | None, typer.Option(help="Of the Dask scheduler or the Ray head.")] = None,
) -> None:
    """Bring every stale stage of the graph up to date, as `dvc repro` does, under Prefect."""
    targets, cells = tuple(target or ()), tuple(cell or ())
    with contextlib.chdir(workspace):
        state = pipeline(targets, cells, protocol, force, max_workers, runner, address, sweep, return_state=True)
    if not state.is_completed():
        typer.echo(f"error: {redact(str(state.message))}", err=True)
        sys.exit(1)
    typer.echo(state.message)


if __name__ == "__main__":
    typer.run(main)
