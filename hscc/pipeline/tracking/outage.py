"""What the processes of one workspace know about a store that is down: warn once, and ask again ever more rarely."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

from hscc.pipeline.tracking.journal import JOURNALS, read_json, write_json
from hscc.pipeline.tracking.store import shown_uri, tracking_uri

_NOTE = JOURNALS / "outage.json"  # of the store, until when it is left alone, and how long that is; in seconds
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 600.0  # seconds
_FORGOTTEN = 3600.0  # seconds after which an outage gets another warning


def is_backing_off(workspace: Path) -> bool:
    """Whether the store failed so recently that asking it again would only cost time."""
    note = _read(workspace)
    return bool(note) and time.time() < note["until"]


def record_failure(workspace: Path, reason: str) -> None:
    """Record that the store does not answer, and warn unless a process of this workspace has done so.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    reason : str
        In a few words, without secrets.
    """
    note = _read(workspace)
    wait = min(2 * note["wait"], _LONGEST_WAIT) if note else _FIRST_WAIT
    content = {"store": _store(workspace), "until": time.time() + wait, "wait": wait}
    write_json(workspace / _NOTE, content, shared=True)
    if not note:
        print(
            f"warning: the MLflow store {shown_uri(workspace)} does not answer ({reason}); the work goes on, its "
            f"figures wait in {JOURNALS}/ and `hscc track` sends them.",
            file=sys.stderr,
            flush=True,
        )


def clear(workspace: Path) -> None:
    """Record that the store answers."""
    (workspace / _NOTE).unlink(missing_ok=True)


def _read(workspace: Path) -> dict[str, Any]:
    note = read_json(workspace / _NOTE)
    try:
        known = note["store"] == _store(workspace) and time.time() < note["until"] + _FORGOTTEN and note["wait"] > 0
    except (KeyError, TypeError):
        return {}
    return note if known else {}


def _store(workspace: Path) -> str:
    return hashlib.sha256(tracking_uri(workspace).encode()).hexdigest()  # an address may hold a password
