"""One MLflow run a job, logged live, continued after a kill, and never in the way of the job.

What a job records goes through a journal on disk (`hscc.tracking.journal`), so that a store that is down costs one
warning. A killed job leaves a small file under ``.hscc/runs`` naming its run; the same job with the same parameters
continues it. Runs hang together: a run is a child of the run that ``HSCC_PARENT_RUN`` names.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscc.errors import HSCCError
from hscc.redaction import redact
from hscc.stages import layout
from hscc.tracking import outage
from hscc.tracking.delivery import PARENT_TAG, deliver
from hscc.tracking.journal import Event, Journal, new_journal, open_journal
from hscc.tracking.origin import data_hash, git_commit
from hscc.tracking.store import StoreDown, open_client
from hscc.tracking.system import watched

if TYPE_CHECKING:
    from mlflow import MlflowClient

PARENT_RUN = "HSCC_PARENT_RUN"

_OPEN_RUNS = layout.SCRATCH / "runs"
_LONGEST_PARAM = 6000  # characters MLflow keeps of a parameter's value
_LONGEST_TAG = 5000

_inside: ContextVar[bool] = ContextVar("inside a run", default=False)


class StageRun:
    """An open run of one job of one stage."""

    def __init__(self, journal: Journal, workspace: Path) -> None:
        self._journal = journal
        self._workspace = workspace
        self._client: MlflowClient | None = None
        self._one_at_a_time = threading.RLock()  # the machine is watched from a thread of its own

    @property
    def run_id(self) -> str:
        """MLflow's id of the run; while the store is down a key that it will be found by."""
        return self._journal.run_id or self._journal.key

    @property
    def is_waiting(self) -> bool:
        """Whether MLflow lacks some of what was recorded, because the store is down."""
        return bool(self._journal.waiting())

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

    def begin(self, event: Event) -> None:
        """Record that the run starts or goes on."""
        self._record(event)

    def end(self, status: str) -> None:
        """Record how the run ended and let go of its journal."""
        with self._one_at_a_time:
            self._record({"do": "end", "time": _now(), "status": status})
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
) -> Iterator[StageRun]:
    """Open the run of one job, or continue the one that a kill left open.

    The run ends as FINISHED, as KILLED on Ctrl-C, as FAILED on any other exception; a killed process leaves it RUNNING
    until the job is run again.

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
    event = _start_event(stage, name, params, tags or {}, workspace)
    event["link"] = not nested
    memo = workspace / _OPEN_RUNS / f"{event['name']}.json"
    digest = hashlib.sha256(json.dumps([event["params"], event["tags"]["data_hash"]]).encode()).hexdigest()
    journal, continues = _left_open(memo, digest, workspace)
    run = StageRun(journal, workspace)
    try:
        run.begin({**event, "continues": continues})
    except HSCCError:
        journal.discard()
        raise
    _remember(memo, digest, run.run_id, journal.key)
    status = "FAILED"
    token = _inside.set(True)
    try:
        with ExitStack() as stack:
            if not nested:
                stack.enter_context(watched(run.metrics))
            yield run
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        _inside.reset(token)
        if status != "FINISHED":
            _remember(memo, digest, run.run_id, journal.key)  # the store may have come up since
        run.end(status)
    memo.unlink(missing_ok=True)


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
        "tags": {key: redact(value)[:_LONGEST_TAG] for key, value in {**known, **own}.items()},
        "parent": parent,
    }


def _left_open(memo: Path, digest: str, workspace: Path) -> tuple[Journal, str | None]:
    """Take the journal that a killed job left, and the run that it was writing; or begin anew."""
    try:
        noted = json.loads(memo.read_text(encoding="utf-8"))
        if noted["digest"] == digest:
            journal = open_journal(workspace, str(noted["key"]))
            if journal is not None:
                return journal, None if noted["run_id"] == noted["key"] else str(noted["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return new_journal(workspace), None


def _remember(memo: Path, digest: str, run_id: str, key: str) -> None:
    memo.parent.mkdir(parents=True, exist_ok=True)
    draft = memo.with_suffix(".tmp")
    draft.write_text(json.dumps({"digest": digest, "run_id": run_id, "key": key}), encoding="utf-8")
    os.replace(draft, memo)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = redact(str(value))[:_LONGEST_PARAM]
    return flat


def _now() -> int:
    return int(time.time() * 1000)
