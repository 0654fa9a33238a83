"""Run the graph of ``dvc.yaml`` under Prefect: ``python -m flows.pipeline``.

DVC decides what must run and keeps the outputs, Prefect runs it and remembers how it went. No server has to be up.
After it ``dvc status`` is clean; an interrupted or failed run is taken up by the next one, or by ``dvc repro``.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from dvc.repo import Repo
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Completed, Failed

from flows.commands import CommandError, run_commands
from flows.graph import Stage, hand_over, is_stale, make_room, open_repo, read_graph
from hscc.errors import HSCCError


@dataclass(frozen=True)
class Outcome:
    """What became of one stage: its address, whether it ran, and the seconds that took."""

    address: str
    ran: bool
    seconds: float


@task(task_run_name="{stage.address}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: Stage) -> State[None]:
    """Run one stage's commands; knows nothing of DVC, so it may run anywhere that sees the workspace.

    Parameters
    ----------
    stage : Stage
        The stage.

    Returns
    -------
    State
        Completed, or Failed with the command's last words.
    """
    logger = get_run_logger()
    try:
        run_commands(stage.commands, stage.folder, stage.address, logger.info)
    except CommandError as error:
        return Failed(message=str(error))  # raised, it would bury the command's own words under a traceback
    return Completed()


@flow(name="pipeline", validate_parameters=False, persist_result=False)
def pipeline(force: bool = False) -> State[None]:
    """Bring every stage of the graph in the current folder up to date.

    Parameters
    ----------
    force : bool
        Run every stage, stale or not.

    Returns
    -------
    State
        Completed, or Failed with the sentence that names the stage.
    """
    outcomes: list[Outcome] = []
    try:
        repo = open_repo(Path.cwd())
        for stage in read_graph(repo):
            if stage.commands:
                outcomes.append(_bring_up_to_date(repo, stage, force))
            elif is_stale(repo, stage):
                raise HSCCError(
                    f"{stage.address} pins other content than is there; run 'hscc fetch' to restore it, "
                    f"or 'dvc commit {stage.address}' to accept it."
                )
    except (HSCCError, CommandError) as error:
        return Failed(message=str(error))
    finally:
        _report(outcomes)
    ran = sum(outcome.ran for outcome in outcomes)
    return Completed(message=f"{ran} of {len(outcomes)} stages ran, all are up to date")


def _bring_up_to_date(repo: Repo, stage: Stage, force: bool) -> Outcome:
    begin = time.monotonic()
    if not (force or is_stale(repo, stage)):
        get_run_logger().info("%s is up to date", stage.address)
        return Outcome(stage.address, ran=False, seconds=0.0)
    make_room(repo, stage)
    state = run_stage(stage, return_state=True)
    if not state.is_completed():
        raise CommandError(state.message or f"stage {stage.address} ended as {state.name}")
    hand_over(repo, stage)
    return Outcome(stage.address, ran=True, seconds=time.monotonic() - begin)


def _report(outcomes: list[Outcome]) -> None:
    rows = [f"| {done.address} | {'ran' if done.ran else 'up to date'} | {done.seconds:.1f} |" for done in outcomes]
    table = "\n".join(["| stage | outcome | seconds |", "| --- | --- | --- |", *rows])
    create_markdown_artifact(markdown=table, key="pipeline", description="Stages of the graph, in the order they came")


def main(
    workspace: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder that holds .dvc and dvc.yaml.")
    ] = Path("."),
    force: Annotated[bool, typer.Option("--force", help="Run every stage, stale or not.")] = False,
) -> None:
    """Bring every stale stage of the graph up to date, as `dvc repro` does, under Prefect."""
    with contextlib.chdir(workspace):
        state = pipeline(force, return_state=True)
    if not state.is_completed():
        typer.echo(f"error: {state.message}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
