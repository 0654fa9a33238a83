"""A subflow a phase: all cells of one stage of ``dvc.yaml`` under one heading in the UI.

The flow decides in its main thread what runs and talks to DVC there; a phase takes stages from it, runs them as tasks
and hands their futures back. Phases run side by side, each in a thread with a copy of the flow's context.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import ContextVar, copy_context
from queue import SimpleQueue
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner

from flows.commands import CommandError, run_commands
from flows.graph import Stage
from flows.lock import FlowLock

Ended = tuple[Stage, State[Any]]


@task(task_run_name="{stage.address}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: Stage, lock: FlowLock, variables: Mapping[str, str]) -> State[None]:
    """Run one stage's commands; knows nothing of DVC, so it may run anywhere that sees the workspace.

    Parameters
    ----------
    stage : Stage
        The stage.
    lock : FlowLock
        Of the flow; when it ends, so does the stage.
    variables : Mapping[str, str]
        Environment variables of the run.

    Returns
    -------
    State
        Completed, or Failed with the command's last words.
    """
    logger = get_run_logger()
    try:
        run_commands(stage.commands, stage.folder, stage.address, logger.info, lock, variables)
    except CommandError as error:
        return Failed(message=str(error))  # raised, it would bury the command's own words under a traceback
    return Completed()


class Phase:
    """An open subflow that runs the stages it is given until it is closed.

    Parameters
    ----------
    name : str
        Of the phase and of its flow.
    runner : TaskRunner
        Where its stages run.
    lock : FlowLock
        Of the flow.
    variables : Mapping[str, str]
        Environment variables of the run.
    ended : SimpleQueue
        Takes each stage with its final state.
    """

    def __init__(
        self,
        name: str,
        runner: TaskRunner[Any],
        lock: FlowLock,
        variables: Mapping[str, str],
        ended: SimpleQueue[Ended],
    ) -> None:
        self._flow = _serve.with_options(name=name, flow_run_name=name, task_runner=runner)
        self._inbox: SimpleQueue[Stage | None] = SimpleQueue()
        self._lock, self._variables, self._ended = lock, variables, ended
        self._pending: dict[str, Stage] = {}
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name=name, daemon=True)
        self._thread.start()

    def submit(self, stage: Stage) -> None:
        """Run a stage as soon as the task runner has a place."""
        self._pending[stage.address] = stage
        self._inbox.put(stage)

    def close(self) -> None:
        """End the subflow once all its stages have ended."""
        self._inbox.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the subflow's end, but not for ever."""
        self._thread.join(seconds)

    def serve(self) -> State[None]:
        """Run stages until the phase is closed; the body of the subflow."""
        futures: list[tuple[Stage, PrefectFuture[Any]]] = []
        while (stage := self._inbox.get()) is not None:
            future = run_stage.submit(stage, self._lock, self._variables)
            futures.append((stage, future))
            threading.Thread(target=self._await, args=(stage, future), daemon=True).start()
        for _, future in futures:
            future.wait()
        failed = [stage.address for stage, future in futures if not future.state.is_completed()]
        if failed:
            return Failed(message=f"failed: {', '.join(failed)}")
        return Completed(message=f"{len(futures)} run")

    def _await(self, stage: Stage, future: PrefectFuture[Any]) -> None:
        state: State[Any] = Failed(message=f"stage {stage.address} broke off; its log in Prefect says more")
        try:
            future.wait()
            state = future.state
        finally:
            self._report(stage, state)  # whatever happened, or the flow would wait for ever

    def _report(self, stage: Stage, state: State[Any]) -> None:
        if self._pending.pop(stage.address, None) is not None:
            self._ended.put((stage, state))

    def _run(self) -> None:
        _CURRENT.set(self)  # in this thread's own copy of the context
        why: str | None = "its log in Prefect says more"
        try:
            why = self._flow(return_state=True).message
        finally:
            # A subflow that could not even start, as without a server, must not leave the flow waiting.
            for stage in list(self._pending.values()):
                self._report(stage, Failed(message=f"phase {stage.phase} ended early: {why}"))


# Not a parameter of the subflow: parameters are recorded by the server and sent to cluster workers.
_CURRENT: ContextVar[Phase] = ContextVar("phase")


def _current() -> Phase:
    return _CURRENT.get()  # a function of its own: clusters get the flow by value, and a ContextVar has none


@flow(validate_parameters=False, persist_result=False)
def _serve() -> State[None]:
    return _current().serve()
