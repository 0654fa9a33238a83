"""What the processes of one workspace know about a store that is down: warn once, and ask again less and less often."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from hscc.errors import HSCCError
from hscc.files import replace_text
from hscc.pipeline.tracking import outage
from hscc.pipeline.tracking.delivery import deliver
from hscc.pipeline.tracking.journal import JOURNALS, left_behind
from hscc.pipeline.tracking.store import StoreDown, open_client, shown_uri, tracking_uri

_NOTE = JOURNALS / "outage.json"
_FIRST_WAIT, _LONGEST_WAIT = 30.0, 600.0  # seconds
_FORGOTTEN = 3600.0  # seconds after which an outage is news again


def waiting(workspace: Path) -> bool:
    """Whether the store failed so lately that asking it again would only cost time."""
    note = _read(workspace)
    return bool(note) and time.time() < note["until"]


def begin(workspace: Path, reason: str) -> None:
    """Note that the store does not answer; say so unless a process of this workspace has said it.

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
    replace_text(workspace / _NOTE, json.dumps(content), shared=True)
    if not note:
        print(
            f"warning: the MLflow store {shown_uri(workspace)} does not answer ({reason}); the work goes on, its "
            f"figures wait in {JOURNALS}/ and `hscc track` sends them.",
            file=sys.stderr,
            flush=True,
        )


def over(workspace: Path) -> None:
    """Note that the store answers."""
    (workspace / _NOTE).unlink(missing_ok=True)


def _read(workspace: Path) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads((workspace / _NOTE).read_text(encoding="utf-8"))
        known = note["store"] == _store(workspace) and time.time() < note["until"] + _FORGOTTEN
        return note if known else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _store(workspace: Path) -> str:
    return hashlib.sha256(tracking_uri(workspace).encode()).hexdigest()  # an address may hold a password


def send_backlog(workspace: Path = Path(".")) -> list[str]:
    """Send the journals of all runs that ended or were killed while the store was down, the earliest first.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.

    Returns
    -------
    list of str
        A line a run: its name and id.

    Raises
    ------
    HSCCError
        If the store still does not answer; what has not arrived keeps waiting.
    """
    journals = left_behind(workspace)
    if not journals:
        return []
    sent = []
    try:
        client = open_client(workspace)
        for journal in journals:  # a parent began before its children
            name = journal.name
            deliver(journal, client, workspace)
            sent.append(f"{name}: run {journal.run_id}")
    except StoreDown as error:
        raise HSCCError(
            f"the MLflow store {shown_uri(workspace)} does not answer ({error}); {len(journals) - len(sent)} of "
            f"{len(journals)} runs keep waiting; start it and run `hscc track` again."
        ) from error
    finally:
        for journal in journals:
            journal.release()
    outage.over(workspace)
    return sent
