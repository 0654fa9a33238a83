"""Change an alias of a registered model, if it still points where the caller saw it.

MLflow sets an alias whatever it pointed at before. Two users who saw the same champion must not both replace it:

- on a SQLite file, which lies on this machine, a lock beside it lets one process at a time read, write the entry and
  set the alias;
- on a server the audit log decides. An entry claims the change of the alias from ``before``; whoever has written one
  reads the log again. Of two claims the earlier wins and the later is withdrawn. The earlier one waits until that is
  done: the other client may have looked before it was written, and then it is the alias that has changed.
"""

from __future__ import annotations

import getpass
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from hscc.pipeline.redaction import redact
from hscc.pipeline.registry.audit_log import LONGEST_NOTE, PREFIX, AliasState, Entry, read_alias, to_tag
from hscc.pipeline.registry.connection import RegistryError, connect, registry_errors

USER = "HSCC_USER"  # names the user where the login name does not

_LOCK_TIMEOUT = 60.0  # seconds; SQLite itself waits twenty for a writer
_CLAIM_TIMEOUT = 15.0  # seconds within which a claim succeeds or is withdrawn
_CLAIM_AGE = 30.0  # seconds a claim keeps others away: longer, as clocks differ; an older one was cut short by a kill
_INTERVAL = 0.2  # seconds between two reads of the log


def current_user() -> str:
    """Name the user: `USER`, or the login name."""
    try:
        return os.environ.get(USER) or getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may run as a number without a name
        return "unknown"


def change_alias(name: str, entry: Entry, uri: str) -> None:
    """Write an entry to the audit log and set the alias, if it still points where the entry says.

    Parameters
    ----------
    name : str
        The registered model.
    entry : Entry
        The change; the alias must still point at its ``before``.
    uri : str
        The store.

    Raises
    ------
    RegistryError
        If the alias was or is being changed by someone else, or the store cannot be written. Unless the store itself
        fails, no entry is left then.
    """
    database = _sqlite_file(uri)
    with _locked(database), registry_errors(uri, "written"):
        found = read_alias(name, entry.alias, uri)
        if found.points_at != entry.before:
            _refuse(name, entry, found)
        client = connect(uri)
        written = replace(entry, at=time.time(), reason=redact(entry.reason)[:LONGEST_NOTE])
        key = f"{PREFIX}{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        client.set_registered_model_tag(name, key, to_tag(written))
        if database is None:
            _win_claim(name, key, entry, uri)
        client.set_registered_model_alias(name, entry.alias, entry.after)


def _win_claim(name: str, key: str, entry: Entry, uri: str) -> None:
    deadline = time.monotonic() + _CLAIM_TIMEOUT
    while True:
        found = read_alias(name, entry.alias, uri)
        claims = _claims(found, entry.before)
        others = [other for other in claims if other != key]
        beaten = key not in claims or any(other < key for other in others)
        if beaten or found.points_at != entry.before or time.monotonic() > deadline:
            connect(uri).delete_registered_model_tag(name, key)
            _refuse(name, entry, found)
        if not others:
            return
        time.sleep(_INTERVAL)


def _claims(found: AliasState, before: str | None) -> list[str]:
    """Tags of the fresh entries that leave the same version; what precedes an entry of another one is settled."""
    latest = takewhile(lambda other: other[1].before == before, reversed(found.entries.items()))
    return [key for key, other in latest if other.at > time.time() - _CLAIM_AGE]


def _refuse(name: str, entry: Entry, found: AliasState) -> NoReturn:
    before, now = ("no version" if one is None else f"version {one}" for one in (entry.before, found.points_at))
    if now == before:
        raise RegistryError(
            f"someone else is changing {entry.alias} of {name} from {before}; look with `hscc registry` in half a "
            "minute and decide again."
        )
    raise RegistryError(
        f"{entry.alias} of {name} changed from {before} to {now} meanwhile; look with `hscc registry` and decide again."
    )


def _sqlite_file(uri: str) -> Path | None:
    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


@contextmanager
def _locked(database: Path | None) -> Iterator[None]:
    if database is None:
        yield
        return
    lock = FileLock(database.with_name(f"{database.name}.lock"), timeout=_LOCK_TIMEOUT, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RegistryError(
            f"another process has been changing an alias in {database} for {_LOCK_TIMEOUT:.0f} seconds; let it "
            "finish, or end it."
        ) from error
    try:
        yield
    finally:
        lock.release()
