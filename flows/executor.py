"""Run the stale stages of the graph: the only place, and the only thread, that talks to DVC."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

from dvc.repo import Repo
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner

from flows.commands import CommandError, run_commands
from flows.graph import Stage, claim, commit_outputs, differs, is_stale
from flows.lock import FlowLock
from flows.phases import Ended, Phase
from flows.publish import Outcome, Progress, publish_outcomes
from flows.schedule import Schedule
from hscc.errors import HSCCError
from hscc.pipeline.redaction import redact

FETCH = "python -m hscc fetch"
_PATIENCE = 20.0  # seconds for a phase to end; its commands get 10 before they are killed


@task(
    name="fetch",
    task_run_name="fetch {stage.address}",
    retries=3,
    retry_delay_seconds=[10, 60, 300],  # a network comes back; a damaged pin does not, and costs six minutes
    cache_policy=NO_CACHE,
    persist_result=False,
)
def _fetch(stage: Stage, lock: FlowLock, variables: Mapping[str, str]) -> None:
    try:
        run_commands((FETCH,), stage.folder, stage.address, get_run_logger().info, lock, variables)
    except CommandError as error:
        raise HSCCError(str(error)) from None


def fetch_data(stage: Stage, lock: FlowLock, variables: Mapping[str, str]) -> None:
    """Bring pinned data that is not there; tried again, since networks fail and come back.

    Parameters
    ----------
    stage : Stage
        A ``.dvc`` file.
    lock : FlowLock
        Of the flow.
    variables : Mapping[str, str]
        Further environment variables.

    Raises
    ------
    HSCCError
        If it cannot be had.
    """
    _fetch(stage, lock, variables)


class Executor:
    """One run: starts what is stale and ready, records each stage in DVC as it ends.

    Parameters
    ----------
    repo : Repo
        The DVC repository; the current folder is its root.
    stages : Sequence[Stage]
        What to bring up to date, in topological order.
    workers : int
        Most stages at once.
    runner : TaskRunner
        Where they run.
    lock : FlowLock
        Of the flow.
    variables : Mapping[str, str]
        Further environment variables of the commands.
    force : bool
        Run stages that are up to date too.
    """

    def __init__(
        self,
        repo: Repo,
        stages: Sequence[Stage],
        workers: int,
        runner: TaskRunner[Any],
        lock: FlowLock,
        variables: Mapping[str, str],
        force: bool,
    ) -> None:
        self._repo, self._stages, self._force = repo, stages, force
        self._runner, self._lock, self._variables = runner, lock, variables
        self._schedule = Schedule(stages, workers)
        self._ended: SimpleQueue[Ended] = SimpleQueue()
        self._phases: dict[str, Phase] = {}
        self._claims: dict[str, tuple[ExitStack, float]] = {}
        self._stale: set[str] = set()  # known to be so, waiting for room
        self._outcomes: list[Outcome] = []
        self._failures: list[str] = []

    def run(self) -> State[None]:
        """Bring all stages up to date that can be.

        Returns
        -------
        State
            Completed, or Failed with the sentences of all that failed.
        """
        progress = Progress(self._schedule.total)
        try:
            self._start_all()
            while self._schedule.running:
                self._take(*self._ended.get())
                self._start_all()
                progress.show(self._schedule.done)
            progress.show(self._schedule.done)
        except BaseException:
            self._lock.end()  # cancelled or broken: what still runs must end with the run
            raise
        finally:
            self._close()
            publish_outcomes(self._outcomes)
        return self._verdict()

    def _close(self) -> None:
        for phase in self._phases.values():
            phase.close()
        for phase in self._phases.values():
            phase.join(_PATIENCE)
        for stack, _ in self._claims.values():
            stack.close()

    def _start_all(self) -> None:
        """Start what may run now; a stage found up to date may free others, so look until nothing moves."""
        moved = True
        while moved:
            moved = False
            for stage in self._schedule.candidates():
                moved |= self._consider(stage)

    def _consider(self, stage: Stage) -> bool:
        try:
            if stage.address not in self._stale and not self._must_run(stage):
                self._schedule.finish(stage)
                return True
            self._stale.add(stage.address)
            if not self._schedule.has_room(stage):
                return False
            self._begin(stage)
        except HSCCError as error:
            self._fail(stage, error)
        return True

    def _must_run(self, stage: Stage) -> bool:
        if stage.commands and self._force:
            return True
        stale = is_stale(self._repo, stage)
        if stale and not stage.commands:
            self._pin(stage)
            return False
        if not stale and stage.commands:
            get_run_logger().info("%s is up to date", stage.address)
            self._outcomes.append(Outcome(stage.address, "up to date", 0.0))
        return stale

    def _pin(self, stage: Stage) -> None:
        if differs(self._repo, stage):
            raise HSCCError(
                f"{stage.address} pins other content than is there; run 'hscc fetch' to restore it, "
                f"or 'dvc commit {stage.address}' to accept it."
            )
        commit_outputs(self._repo, stage)  # fetched, or damaged in the cache: as with `dvc repro` the cache gets it

    def _begin(self, stage: Stage) -> None:
        stack = ExitStack()
        stack.enter_context(claim(self._repo, stage))
        self._claims[stage.address] = (stack, time.monotonic())
        self._schedule.begin(stage)
        phase = self._phases.get(stage.phase)
        if phase is None:
            phase = Phase(stage.phase, self._runner, self._lock, self._variables, self._ended)
            self._phases[stage.phase] = phase
        phase.submit(stage)

    def _take(self, stage: Stage, state: State[Any]) -> None:
        stack, begun = self._claims.pop(stage.address)
        seconds = time.monotonic() - begun
        try:
            stack.close()
            if not state.is_completed():
                raise HSCCError(state.message or f"stage {stage.address} ended as {state.name}")
            commit_outputs(self._repo, stage)
        except HSCCError as error:
            self._fail(stage, error, seconds)
            return
        self._outcomes.append(Outcome(stage.address, "ran", seconds))
        self._schedule.finish(stage)
        self._close_if_over(stage.phase)

    def _fail(self, stage: Stage, error: HSCCError, seconds: float = 0.0) -> None:
        why = redact(str(error))  # DVC's own sentences may name a remote with its password
        get_run_logger().error(why)
        self._failures.append(why)
        self._outcomes.append(Outcome(stage.address, "failed", seconds))
        self._schedule.fail(stage)
        self._close_if_over(stage.phase)

    def _close_if_over(self, phase: str) -> None:
        left = {*self._schedule.held_back, *self._schedule.running}
        if phase in self._phases and not any(stage.address in left for stage in self._stages if stage.phase == phase):
            self._phases[phase].close()

    def _verdict(self) -> State[None]:
        if not self._failures:
            jobs = self._outcomes
            ran = sum(outcome.word == "ran" for outcome in jobs)
            return Completed(message=f"{ran} of {len(jobs)} stages ran, all are up to date")
        held = self._schedule.held_back
        rest = f"; not begun: {', '.join(held)}" if held else ""
        return Failed(message=f"{' | '.join(self._failures)}{rest}")
