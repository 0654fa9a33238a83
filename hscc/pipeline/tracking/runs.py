"""One MLflow run per job, logged live and resumed after a kill; a store that fails never stops the job.

What a job records goes through a `journal` on disk, so a store that is down costs one warning. While a job runs, a
small file under ``.hscc/runs`` names its run and journal; the same job with the same inputs resumes that run after a
kill. A run is a child of the run that ``HSCC_PARENT_RUN`` names.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscc.errors import HSCCError
from hscc.pipeline import layout
from hscc.pipeline.provenance import data_hash, git_commit
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking import outage
from hscc.pipeline.tracking.delivery import PARENT_TAG, deliver
from hscc.pipeline.tracking.journal import (
    Artifact,
    End,
    Event,
    Journal,
    Metrics,
    Start,
    Tags,
    new_journal,
    open_journal,
    read_json,
    write_json,
)
from hscc.pipeline.tracking.store import StoreDown, open_client, run_page
from hscc.pipeline.tracking.system import system_metrics

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_RUN = "HSCC_PARENT_RUN"

_OPEN_RUNS = layout.SCRATCH / "runs"
_LONGEST_PARAM = 6000  # characters MLflow keeps of a parameter's value
_LONGEST_TAG = 5000

_inside: ContextVar[bool] = ContextVar("inside a run", default=False)


class StageRun:
    """An open run of one job of one stage.

    Attributes
    ----------
    status : str
        How the run ends unless an exception ends it: FINISHED, or FAILED if the job sets it.
    """

    def __init__(self, journal: Journal, workspace: Path) -> None:
        self._journal = journal
        self._workspace = workspace
        self._client: MlflowClient | None = None
        self.status = "FINISHED"
        self._lock = threading.RLock()  # system metrics are recorded from a thread of their own

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
        with self._lock:
            if self._client is None or self._journal.run_id is None:
                return None
            return run_page(self._client, self._journal.run_id, self._workspace)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record figures by name; `step` is the epoch or batch, for curves."""
        self.record(Metrics(_now(), step or 0, {name: float(value) for name, value in values.items()}))

    def tags(self, values: Mapping[str, str]) -> None:
        """Record text by name that became known after the start."""
        self.record(Tags(_now(), _redacted(values)))

    def artifact(self, path: Path) -> None:
        """Keep a copy of an existing file, or of a folder's content, with the run."""
        with self._lock:
            self.record(Artifact(_now(), self._journal.keep(path)))

    def end(self, status: str, at: int | None = None) -> None:
        """Record how the run ended, and when if not now (milliseconds since 1970), and release its journal."""
        with self._lock:
            self.record(End(at or _now(), status))
            self._journal.release()

    def record(self, event: Event) -> None:
        """Write an event to the journal, and send what waits if the store answers."""
        with self._lock:
            self._journal.add(event)
            if outage.is_backing_off(self._workspace):
                return
            try:
                self._client = self._client or open_client(self._workspace)
                deliver(self._journal, self._client, self._workspace)
            except StoreDown as error:
                self._client = None
                outage.record_failure(self._workspace, str(error))
            else:
                outage.clear(self._workspace)


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
    """Open the run of one job, or resume the one that a kill left open.

    The run ends as FINISHED, as KILLED on Ctrl-C and other signals, as FAILED on an exception; a process killed by
    force leaves it RUNNING until the job is run again.

    Parameters
    ----------
    stage : str
        The stage, such as ``train``; ``pipeline`` for the parent of a whole run.
    name : str
        The job within the stage, such as ``grouped`` or ``hscc-macs6-seed0``.
    params : Mapping[str, Any]
        Parameters that decide the outcome; nested mappings become dotted names.
    tags : Mapping[str, str], optional
        Further tags. Stage, DVC stage, git commit and data hash are always set.
    workspace : Path
        Folder of ``dvc.yaml``.
    resumable : bool
        Whether the same job resumes the run after a kill; a job of that name with other parameters or data ends it as
        KILLED. Otherwise every call is a run of its own, and those of the stage whose processes were killed are ended
        as KILLED first.

    Yields
    ------
    StageRun
        Where the job records its figures. Child processes become children of the run if their environment names its
        ``run_id`` as ``HSCC_PARENT_RUN``.

    Raises
    ------
    HSCCError
        If the address of the store is unusable; a store that is down only costs a warning.
    """
    nested = _inside.get()
    if not resumable:
        for abandoned in _take_abandoned(workspace, stage):
            _end_killed(abandoned, workspace)
    start = _start_event(stage, name, params, tags or {}, workspace, link=not nested)
    inputs = json.dumps([start.params, start.tags["data_hash"]])
    digest = hashlib.sha256(inputs.encode()).hexdigest()
    note = workspace / _OPEN_RUNS / f"{start.name}.json"
    journal, continues = _resume(note, digest, workspace)
    run = StageRun(journal, workspace)
    try:
        run.record(replace(start, continues=continues))
    except HSCCError:
        journal.discard()
        raise
    _OpenRun(digest, run.run_id, journal.key).write(note)
    status = "KILLED"
    token = _inside.set(True)
    try:
        with ExitStack() as stack:
            if not nested:
                stack.enter_context(system_metrics(run.metrics))
            yield run
        status = run.status
    except (Exception, SystemExit):
        status = "FAILED"
        raise
    finally:
        _inside.reset(token)
        if status != "FINISHED" and resumable:
            _OpenRun(digest, run.run_id, journal.key).write(note)  # the store may have come up since
        run.end(status)
        if status == "FINISHED" or not resumable:
            note.unlink(missing_ok=True)


@dataclass(frozen=True)
class _OpenRun:
    """Which run a job was writing: a digest of the job's inputs, the run's id, and the key of its journal."""

    digest: str
    run_id: str
    key: str

    @classmethod
    def read(cls, path: Path) -> _OpenRun | None:
        found = read_json(path)
        return cls(**found) if found.keys() == {"digest", "run_id", "key"} else None

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))

    def take(self, workspace: Path) -> Journal | None:
        """Lock its journal, which then knows the run's id; None where another process writes it."""
        journal = open_journal(workspace, self.key)
        if journal is not None and self.run_id != self.key:
            journal.run_id = journal.run_id or self.run_id
        return journal


def _resume(note: Path, digest: str, workspace: Path) -> tuple[Journal, str | None]:
    """Take over the run of the same job; end as KILLED the one of a job of that name with other inputs."""
    noted = _OpenRun.read(note)
    journal = noted.take(workspace) if noted else None
    if noted and journal:
        if noted.digest == digest:
            return journal, journal.run_id
        if journal.is_open:
            _end_killed(journal, workspace)
        else:  # it failed, and MLflow knows
            journal.release()
    return new_journal(workspace), None


def _take_abandoned(workspace: Path, stage: str) -> list[Journal]:
    """Lock the journals of a stage's runs whose processes are gone, and remove the files that name them."""
    found = []
    for path in sorted((workspace / _OPEN_RUNS).glob(f"{stage}-*.json")):
        noted = _OpenRun.read(path)
        journal = noted.take(workspace) if noted else None
        if journal is None:
            continue  # another process writes it
        path.unlink(missing_ok=True)
        if journal.run_id is None and journal.latest is None:
            journal.discard()  # only its name is known
            continue
        found.append(journal)
    return found


def _end_killed(journal: Journal, workspace: Path) -> None:
    StageRun(journal, workspace).end("KILLED", journal.latest)


def _start_event(
    stage: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str], workspace: Path, *, link: bool
) -> Start:
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
    return Start(_now(), f"{stage}-{name}", _flatten(params), _redacted({**known, **own}), parent, link)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = redact(str(value))[:_LONGEST_PARAM]
    return flat


def _redacted(values: Mapping[str, str]) -> dict[str, str]:
    return {name: redact(value)[:_LONGEST_TAG] for name, value in values.items()}


def _now() -> int:
    return int(time.time() * 1000)
