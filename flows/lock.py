"""The lock of a workspace: one flow at a time, and commands only as long as their flow lives.

The lock is a file under ``.hscc``. A flow locks it (the system releases it however the flow ends, ``kill -9`` included)
and writes its name into it. Commands know that name, on this machine or on a worker that sees the same files;
`flows.guard` ends a command whose name is no longer in the file.
"""

from __future__ import annotations

import fcntl
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hscc.errors import HSCCError
from hscc.pipeline import layout

_FILE = layout.SCRATCH / "flow.lock"


class BusyError(HSCCError):
    """Another flow runs in this workspace."""


@dataclass(frozen=True)
class FlowLock:
    """The lock as its flow holds it.

    Parameters
    ----------
    path : Path
        The lock file, absolute.
    owner : str
        The flow's name in it, with its process and machine, in one line.
    """

    path: Path
    owner: str

    def end(self) -> None:
        """End the commands that run under it, wherever they are; within a second they get SIGTERM."""
        _write(self.path, "")


@contextmanager
def hold(workspace: Path, name: str) -> Iterator[FlowLock]:
    """Hold the lock of a workspace for as long as the block runs.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    name : str
        What the flow calls itself, for the message another one gets.

    Yields
    ------
    FlowLock
        What to hand to the commands; on leaving the block those still running are ended.

    Raises
    ------
    BusyError
        If another living flow holds it.
    """
    path = (workspace / _FILE).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = f"{name} (process {os.getpid()} on {socket.gethostname()}, {uuid.uuid4().hex[:8]})"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "another flow"
            raise BusyError(f"{holder} runs in {workspace.resolve()}; wait for its end or cancel it.") from error
        _write(path, owner)
        lock = FlowLock(path, owner)
        try:
            yield lock
        finally:
            lock.end()


def _write(path: Path, owner: str) -> None:
    path.write_text(owner, encoding="utf-8")  # in place: a rename would leave the lock on a file nobody sees
