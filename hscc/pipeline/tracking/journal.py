"""What one run is to record, on disk until MLflow has it.

Every event is written here before it is sent, with copies of its files, and forgotten once it has arrived. So a store
that is down, a killed process and a lost connection all come to the same: what is left is sent later, in order.
A journal belongs to one process at a time; its lock dies with the process.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hscc.files import replace_text
from hscc.pipeline import layout

JOURNALS = layout.SCRATCH / "tracking"
KEY_PREFIX = "local-"

Event = dict[str, Any]


class Journal:
    """The events of one run: those that MLflow has, and those that wait.

    Parameters
    ----------
    folder : Path
        Holds ``events.jsonl``, ``state.json`` and the folder ``files``; its name is the run's key.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = FileLock(folder.with_suffix(".lock"), timeout=0, thread_local=False)
        self.run_id: str | None = None
        self._sent = 0
        self._events: list[Event] = []

    @property
    def key(self) -> str:
        """What the run is called where MLflow has not given it an id yet."""
        return self._folder.name

    @property
    def started(self) -> int:
        """When the run began, in milliseconds since 1970; 0 where nothing was recorded."""
        return int(self._events[0]["time"]) if self._events else 0

    @property
    def latest(self) -> int | None:
        """When something was recorded last, in milliseconds since 1970."""
        return int(self._events[-1]["time"]) if self._events else None

    @property
    def is_open(self) -> bool:
        """Whether something was recorded, and not how it ended: the run's process was killed, or works on it."""
        return bool(self._events) and self._events[-1]["do"] != "end"

    @property
    def name(self) -> str:
        """Name of the run, such as ``train-grouped``; empty where nothing was recorded."""
        return str(self._events[0].get("name", "")) if self._events else ""

    def take(self) -> bool:
        """Take the journal for this process and read what it holds; False where another process has it."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            return False
        self._folder.mkdir(exist_ok=True)
        self._events = _read_events(self._folder / "events.jsonl")
        state = _read_state(self._folder / "state.json")
        self.run_id, self._sent = state.get("run_id"), min(int(state.get("sent", 0)), len(self._events))
        return True

    def discard(self) -> None:
        """Forget everything, sent or not, and let go."""
        self._sent = len(self._events)
        self.release()

    def release(self) -> None:
        """Let other processes have it; it is removed where nothing waits."""
        if not self.waiting():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()
        if not self._folder.exists():
            self._folder.with_suffix(".lock").unlink(missing_ok=True)

    def add(self, event: Event) -> None:
        """Write an event down; it waits until `arrived`."""
        with (self._folder / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
        self._events.append(event)

    def waiting(self) -> list[Event]:
        """Events that MLflow does not have, oldest first."""
        return self._events[self._sent :]

    def attempted(self) -> bool:
        """Whether the oldest waiting event was sent before, so that MLflow may have it without our knowing."""
        return bool(_read_state(self._folder / "state.json").get("trying") == self._sent)

    def trying(self) -> None:
        """Note that the oldest waiting event is about to be sent."""
        self._write_state(trying=self._sent)

    def arrived(self, run_id: str) -> None:
        """Note that MLflow has the oldest waiting event, and under which run."""
        event = self._events[self._sent]
        self.run_id, self._sent = run_id, self._sent + 1
        self._write_state()
        if "file" in event:
            shutil.rmtree(self.kept(event["file"]).parent, ignore_errors=True)

    def keep(self, path: Path) -> str:
        """Copy a file or folder here.

        Parameters
        ----------
        path : Path
            What to copy.

        Returns
        -------
        str
            Where the copy is, for `kept`.
        """
        name = f"{uuid.uuid4().hex[:12]}/{path.name}"
        target = self.kept(name)
        target.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, target)
        else:
            shutil.copy2(path, target)
        return name

    def kept(self, name: str) -> Path:
        """Path of a copy made by `keep`."""
        return self._folder / "files" / name

    def _write_state(self, trying: int | None = None) -> None:
        state = {"run_id": self.run_id, "sent": self._sent, "trying": trying}
        replace_text(self._folder / "state.json", json.dumps(state))


def new_journal(workspace: Path) -> Journal:
    """Begin the journal of a new run, taken for this process."""
    journal = Journal(workspace / JOURNALS / f"{KEY_PREFIX}{uuid.uuid4().hex}")
    journal.take()
    return journal


def open_journal(workspace: Path, key: str) -> Journal | None:
    """Take the journal of an earlier run, empty where everything had arrived; None where another process has it."""
    journal = Journal(workspace / JOURNALS / key)
    return journal if journal.take() else None


def left_behind(workspace: Path) -> list[Journal]:
    """Take all journals that no living process holds and that wait for MLflow, the earliest run first."""
    folders = sorted((workspace / JOURNALS).glob(f"{KEY_PREFIX}*/"))
    taken = [journal for folder in folders if (journal := Journal(folder)).take()]
    for journal in taken:
        if not journal.waiting():
            journal.release()
    return sorted((journal for journal in taken if journal.waiting()), key=lambda journal: journal.started)


def count_waiting(workspace: Path) -> int:
    """Count the journals on disk: runs under way and runs that MLflow does not have in full."""
    return sum(1 for _ in (workspace / JOURNALS).glob(f"{KEY_PREFIX}*/"))


def _read_events(path: Path) -> list[Event]:
    if not path.is_file():
        return []
    *whole, rest = path.read_text(encoding="utf-8").split("\n")
    if rest:  # a kill cut the last line short; the next event must not be glued to it
        path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
    return [json.loads(line) for line in whole]


def _read_state(path: Path) -> Mapping[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}
