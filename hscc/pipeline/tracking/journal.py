"""The events of one run, kept on disk until MLflow has them.

Every event is written here before it is sent, with copies of its files, and dropped once it has arrived. A store that
is down, a killed process and a lost connection are therefore handled alike: what is left is sent later, in order.
A journal belongs to one process at a time; its lock ends with the process.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hscc.files import replace_text
from hscc.pipeline import layout

JOURNALS = layout.SCRATCH / "tracking"
KEY_PREFIX = "local-"


@dataclass(frozen=True)
class Start:
    """A run starts or is resumed; times are in milliseconds since 1970.

    Attributes
    ----------
    time : int
        When.
    name : str
        Name of the run, such as ``train-grouped``.
    params, tags : dict of str to str
        As MLflow records them.
    parent : str or None
        MLflow's id of the parent run, or the key of its journal.
    link : bool
        Whether ``reports/runs`` names the run.
    continues : str or None
        MLflow's id of the run to resume.
    """

    time: int
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    parent: str | None
    link: bool
    continues: str | None = None


@dataclass(frozen=True)
class Metrics:
    """Figures at one step."""

    time: int
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Tags:
    """Text that became known after the start."""

    time: int
    values: dict[str, str]


@dataclass(frozen=True)
class Artifact:
    """A file or folder, as `Journal.keep` names the copy."""

    time: int
    file: str


@dataclass(frozen=True)
class End:
    """The run ended, with a status of MLflow's."""

    time: int
    status: str


Event = Start | Metrics | Tags | Artifact | End
_KINDS: dict[str, type[Event]] = {"start": Start, "metrics": Metrics, "tags": Tags, "artifact": Artifact, "end": End}


def event_kind(event: Event) -> str:
    """Name of an event's kind, as the journal's file and messages write it."""
    return type(event).__name__.lower()


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
        self._sent = 0  # number of events that MLflow has
        self._trying: int | None = None  # number of the event that was sent last
        self._events: list[Event] = []

    @property
    def key(self) -> str:
        """Stands for the run until MLflow has given it an id."""
        return self._folder.name

    @property
    def name(self) -> str:
        """Name of the run, such as ``train-grouped``; empty where its start is not in the journal."""
        return self._events[0].name if self._events and isinstance(self._events[0], Start) else ""

    @property
    def started(self) -> int:
        """Time of the first event, in milliseconds since 1970; 0 for an empty journal."""
        return self._events[0].time if self._events else 0

    @property
    def latest(self) -> int | None:
        """Time of the last event, in milliseconds since 1970; None for an empty journal."""
        return self._events[-1].time if self._events else None

    @property
    def is_open(self) -> bool:
        """Whether there are events but no end: the run's process was killed, or still works."""
        return bool(self._events) and not isinstance(self._events[-1], End)

    def take(self) -> bool:
        """Lock the journal for this process and read it; False where another process holds it."""
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            return False
        self._folder.mkdir(exist_ok=True)
        self._events = _read_events(self._folder / "events.jsonl")
        state = read_json(self._folder / "state.json")
        self.run_id, self._trying = state.get("run_id"), state.get("trying")
        self._sent = min(int(state.get("sent", 0)), len(self._events))
        return True

    def release(self) -> None:
        """Unlock the journal, and remove it where nothing waits."""
        if not self.waiting():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.release()
        if not self._folder.exists():
            self._folder.with_suffix(".lock").unlink(missing_ok=True)

    def discard(self) -> None:
        """Unlock and remove the journal, sent or not."""
        self._sent = len(self._events)
        self.release()

    def add(self, event: Event) -> None:
        """Append an event; it waits until `mark_arrived`."""
        path = self._folder / "events.jsonl"
        size = path.stat().st_size if path.is_file() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"do": event_kind(event), **asdict(event)}) + "\n")
        except OSError:
            with suppress(OSError):  # of a full disk: the next event must not go on in half a line
                os.truncate(path, size)
            raise
        self._events.append(event)

    def waiting(self) -> list[Event]:
        """Events that MLflow does not have, oldest first."""
        return self._events[self._sent :]

    @property
    def was_tried(self) -> bool:
        """Whether the oldest waiting event was sent before without an answer, so that MLflow may have it."""
        return self._trying == self._sent

    def mark_tried(self) -> None:
        """Record that the oldest waiting event is about to be sent."""
        self._trying = self._sent
        self._write_state()

    def mark_arrived(self, run_id: str) -> None:
        """Record that MLflow has the oldest waiting event, and under which run."""
        event = self._events[self._sent]
        self.run_id, self._sent, self._trying = run_id, self._sent + 1, None
        self._write_state()
        if isinstance(event, Artifact):
            shutil.rmtree(self.kept(event.file).parent, ignore_errors=True)

    def keep(self, path: Path) -> str:
        """Copy a file or folder into the journal; returns its name for `kept`."""
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

    def _write_state(self) -> None:
        write_json(self._folder / "state.json", {"run_id": self.run_id, "sent": self._sent, "trying": self._trying})


def new_journal(workspace: Path) -> Journal:
    """Begin the journal of a new run, locked for this process."""
    journal = Journal(workspace / JOURNALS / f"{KEY_PREFIX}{uuid.uuid4().hex}")
    journal.take()
    return journal


def open_journal(workspace: Path, key: str) -> Journal | None:
    """Lock the journal of an earlier run, empty where everything had arrived; None where another process has it."""
    journal = Journal(workspace / JOURNALS / key)
    return journal if journal.take() else None


def take_waiting(workspace: Path) -> list[Journal]:
    """Lock all journals that wait for MLflow and that no living process holds, the earliest run first."""
    folders = sorted((workspace / JOURNALS).glob(f"{KEY_PREFIX}*/"))
    taken = [journal for folder in folders if (journal := Journal(folder)).take()]
    for journal in taken:
        if not journal.waiting():
            journal.release()
    return sorted((journal for journal in taken if journal.waiting()), key=lambda journal: journal.started)


def count_waiting(workspace: Path) -> int:
    """Count the journals on disk: runs under way and runs that MLflow does not have in full."""
    return sum(1 for _ in (workspace / JOURNALS).glob(f"{KEY_PREFIX}*/"))


def read_json(path: Path) -> dict[str, Any]:
    """Read a small file of this room; empty where it is absent or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, content: Mapping[str, Any], *, indent: int | None = None, shared: bool = False) -> None:
    """Write a small file of this room, whole or not at all; `shared` where other processes write it too."""
    replace_text(path, json.dumps(content, indent=indent) + "\n", shared=shared)


def _read_events(path: Path) -> list[Event]:
    if not path.is_file():
        return []
    *whole, rest = path.read_text(encoding="utf-8").split("\n")
    if rest:  # a kill cut the last line short; the next event must not be appended to it
        path.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")
    return [_parse_event(line) for line in whole]


def _parse_event(line: str) -> Event:
    fields = json.loads(line)
    return _KINDS[fields.pop("do")](**fields)
