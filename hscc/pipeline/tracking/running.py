"""The small files under ``.hscc/runs`` that name the runs under way, so that a killed job's run is found again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hscc.files import replace_text
from hscc.pipeline import layout
from hscc.pipeline.tracking.journal import Journal, new_journal, open_journal
from hscc.pipeline.tracking.store import EXPERIMENT, shown_uri

_OPEN_RUNS = layout.SCRATCH / "runs"


class Memo:
    """Which run a job was writing, and under which key its journal lies.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    name : str
        Name of the run, such as ``train-grouped``.
    inputs : object
        What makes two jobs of that name the same, as JSON can hold it.
    """

    def __init__(self, workspace: Path, name: str, inputs: Any) -> None:
        self._workspace = workspace
        self._path = workspace / _OPEN_RUNS / f"{name}.json"
        self._digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

    def left_open(self) -> tuple[Journal, str | None]:
        """Take the journal that the same job left, and the run that it was writing; or begin anew."""
        noted = _read(self._path)
        if noted.get("digest") == self._digest:
            found = _taken(noted, self._workspace)
            if found is not None:
                return found
        return new_journal(self._workspace), None

    def outdated(self) -> Journal | None:
        """Take the journal of a run that a kill left open and that this job does not continue, if there is one."""
        noted = _read(self._path)
        taken = None if noted.get("digest") == self._digest else _taken(noted, self._workspace)
        if taken is None:
            return None
        journal, run_id = taken
        if not journal.is_open:  # it failed, and said so
            journal.release()
            return None
        journal.run_id = journal.run_id or run_id
        return journal

    def note(self, run_id: str, key: str) -> None:
        """Write down which run is under way."""
        replace_text(self._path, json.dumps({"digest": self._digest, "run_id": run_id, "key": key}))

    def forget(self) -> None:
        """Let no later job continue the run."""
        self._path.unlink(missing_ok=True)


def take_abandoned(workspace: Path, stage: str) -> list[Journal]:
    """Take the journals of a stage's runs whose processes are gone, and forget their memos.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    stage : str
        The stage.

    Returns
    -------
    list of Journal
        Each holds the start of its run, or knows its id.
    """
    found = []
    for path in sorted((workspace / _OPEN_RUNS).glob(f"{stage}-*.json")):
        taken = _taken(_read(path), workspace)
        if taken is None:
            continue  # another process writes it
        journal, run_id = taken
        path.unlink(missing_ok=True)
        journal.run_id = journal.run_id or run_id
        if journal.run_id is None and journal.latest is None:
            journal.discard()  # nobody knows more of it than its name
            continue
        found.append(journal)
    return found


def _taken(noted: dict[str, Any], workspace: Path) -> tuple[Journal, str | None] | None:
    try:
        key, run_id = str(noted["key"]), str(noted["run_id"])
    except KeyError:
        return None
    journal = open_journal(workspace, key)
    return None if journal is None else (journal, None if run_id == key else run_id)


def _read(path: Path) -> dict[str, Any]:
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def write_link(workspace: Path, name: str, run_id: str) -> None:
    """Note which MLflow run holds the figures of a job, replacing the note of an earlier run.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    name : str
        Name of the run, such as ``train-alexnet-grouped``.
    run_id : str
        MLflow's id of it.
    """
    path = workspace / layout.RUNS / f"{name}.json"
    note = {"experiment": EXPERIMENT, "run_id": run_id, "store": shown_uri(workspace)}
    replace_text(path, json.dumps(note, indent=2) + "\n")
