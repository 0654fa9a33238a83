"""One MLflow run a job, logged live, continued after a kill, and never in the way of the job.

What a job records goes through a journal on disk (`journal`), so that a store that is down costs one
warning. A killed job leaves a memo that names its run (`running`); the same job with the same parameters
continues it. Runs hang together: a run is a child of the run that ``HSCC_PARENT_RUN`` names.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscc.errors import HSCCError
from hscc.pipeline.provenance import data_hash, git_commit
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking import outage
from hscc.pipeline.tracking.delivery import PARENT_TAG, deliver
from hscc.pipeline.tracking.journal import Event, Journal
from hscc.pipeline.tracking.running import Memo, take_abandoned
from hscc.pipeline.tracking.store import StoreDown, open_client, run_page
from hscc.pipeline.tracking.system import watched

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_RUN = "HSCC_PARENT_RUN"

_LONGEST_PARAM = 6000  # characters MLflow keeps of a parameter's value
_LONGEST_TAG = 5000

_inside: ContextVar[bool] = ContextVar("inside a run", default=False)


class StageRun:
    """An open run of one job of one stage."""

    def __init__(self, journal: Journal, workspace: Path) -> None:
        self._journal = journal
        self._workspace = workspace
        self._client: MlflowClient | None = None
        self.status = "FINISHED"  # how the run ends unless an exception ends it; a job may set FAILED
        self._one_at_a_time = threading.RLock()  # the machine is watched from a thread of its own

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; while the store is down a key that it will be found by."""
        return self._journal.run_id or self._journal.key

    @property
    def is_waiting(self) -> bool:
        """Whether MLflow lacks some of what was recorded, because the store is down."""
        return bool(self._journal.waiting())

    @property
    def page(self) -> str | None:
        """Address of the run's page, where the store is a server and has the run."""
        with self._one_at_a_time:
            if self._client is None or self._journal.run_id is None:
                return None
            return run_page(self._client, self._journal.run_id, self._workspace)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record figures.

        Parameters
        ----------
        values : Mapping[str, float]
            Figures by name.
        step : int, optional
            Epoch or batch, for curves.
        """
        figures = {name: float(value) for name, value in values.items()}
        self._record({"do": "metrics", "time": _now(), "step": step or 0, "values": figures})

    def artifact(self, path: Path) -> None:
        """Keep a copy of a file or of a folder's content with the run.

        Parameters
        ----------
        path : Path
            An existing file or folder.
        """
        with self._one_at_a_time:
            self._record({"do": "artifact", "time": _now(), "file": self._journal.keep(path)})

    def tags(self, values: Mapping[str, str]) -> None:
        """Record what is known only later than the start, as words.

        Parameters
        ----------
        values : Mapping[str, str]
            Text by name.
        """
        self._record({"do": "tags", "time": _now(), "values": _shown_tags(values)})

    def begin(self, event: Event) -> None:
        """Record that the run starts or goes on."""
        self._record(event)

    def end(self, status: str, at: int | None = None) -> None:
        """Record how the run ended, and when if not now (milliseconds since 1970), and let go of its journal."""
        with self._one_at_a_time:
            self._record({"do": "end", "time": at or _now(), "status": status})
            self._journal.release()

    def _record(self, event: Event) -> None:
        with self._one_at_a_time:
            self._journal.add(event)
            if outage.waiting(self._workspace):
                return
            try:
                self._client = self._client or open_client(self._workspace)
                deliver(self._journal, self._client, self._workspace)
            except StoreDown as error:
                self._client = None
                outage.begin(self._workspace, str(error))
            else:
                outage.over(self._workspace)


@contextmanager
def stage_run(
    stage: str,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
    workspace: Path = Path("."),
    *,
    resumable: bool = True,
) -> Iterator[StageRun]:
    """Open the run of one job, or continue the one that a kill left open.

    The run ends as FINISHED, as KILLED on Ctrl-C and other signals, as FAILED on an exception; a process killed by
    force leaves it RUNNING until the job is run again.

    Parameters
    ----------
    stage : str
        The stage, such as ``train``; ``pipeline`` for the parent of a whole run.
    name : str
        The job within the stage, such as ``grouped`` or ``hscc-6-0``.
    params : Mapping[str, Any]
        Parameters that decide the outcome; nested mappings become dotted names.
    tags : Mapping[str, str], optional
        Further tags. Stage, DVC stage, git commit and data hash are always set.
    workspace : Path
        Folder of ``dvc.yaml``.
    resumable : bool
        Whether the same job continues the run after a kill; one with other parameters or data ends it as KILLED.
        Otherwise every call is a run of its own, and those of the stage whose processes were killed are ended as
        KILLED first.

    Yields
    ------
    StageRun
        What the job records its figures with. For child processes to hang their runs below it, their environment
        names its ``run_id`` as ``HSCC_PARENT_RUN``.

    Raises
    ------
    HSCCError
        If the address of the store makes no sense; a store that is down only costs a warning.
    """
    nested = _inside.get()
    if not resumable:
        _end_abandoned(workspace, stage)
    event = _start_event(stage, name, params, tags or {}, workspace)
    event["link"] = not nested
    memo = Memo(workspace, event["name"], [event["params"], event["tags"]["data_hash"]])
    _end_killed(memo.outdated(), workspace)
    journal, continues = memo.left_open()
    run = StageRun(journal, workspace)
    try:
        run.begin({**event, "continues": continues})
    except HSCCError:
        journal.discard()
        raise
    memo.note(run.run_id, journal.key)
    status = "KILLED"
    token = _inside.set(True)
    try:
        with ExitStack() as stack:
            if not nested:
                stack.enter_context(watched(run.metrics))
            yield run
        status = run.status
    except (Exception, SystemExit):
        status = "FAILED"
        raise
    finally:
        _inside.reset(token)
        if status != "FINISHED" and resumable:
            memo.note(run.run_id, journal.key)  # the store may have come up since
        run.end(status)
        if status == "FINISHED" or not resumable:
            memo.forget()


def _end_abandoned(workspace: Path, stage: str) -> None:
    for journal in take_abandoned(workspace, stage):
        _end_killed(journal, workspace)


def _end_killed(journal: Journal | None, workspace: Path) -> None:
    if journal is not None:
        StageRun(journal, workspace).end("KILLED", journal.latest)


def _start_event(
    stage: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str], workspace: Path
) -> dict[str, Any]:
    from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE

    own = dict(tags)
    parent = own.pop(PARENT_TAG, None) or os.environ.get(PARENT_RUN)
    commit = git_commit(workspace)
    known = {
        MLFLOW_GIT_COMMIT: commit,
        MLFLOW_SOURCE_NAME: f"hscc {stage}",
        MLFLOW_SOURCE_TYPE: "LOCAL",
        "stage": stage,
        "dvc_stage": os.environ.get("DVC_STAGE") or "by hand",
        "git_commit": commit,
        "data_hash": data_hash(workspace),
    }
    return {
        "do": "start",
        "time": _now(),
        "name": f"{stage}-{name}",
        "params": _flatten(params),
        "tags": _shown_tags({**known, **own}),
        "parent": parent,
    }


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = redact(str(value))[:_LONGEST_PARAM]
    return flat


def _shown_tags(values: Mapping[str, str]) -> dict[str, str]:
    return {name: redact(value)[:_LONGEST_TAG] for name, value in values.items()}


def _now() -> int:
    return int(time.time() * 1000)
