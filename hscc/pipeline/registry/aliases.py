"""Move an alias from where it was seen to where it shall be, or not at all.

MLflow sets an alias whatever it pointed at before. Two who saw the same champion must not both replace it, so:

- on a SQLite file, which lies on this machine, a lock beside it lets one at a time read, write the entry and set the
  alias;
- on a server the trail decides. An entry is the claim to move the alias from ``before``; whoever has written one reads
  the trail again. Of two claims the earlier wins and the later is withdrawn. The earlier one waits until that is done:
  the other may have looked before it was written, and then it is the alias that has moved.
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
from hscc.pipeline.registry.audit_log import LONGEST_NOTE, PREFIX, Entry, Reading, read_alias, to_tag
from hscc.pipeline.registry.connection import RegistryError, connect, registry_errors

BY = "HSCC_USER"  # who asks, where the login name does not say it

_PATIENCE = 60.0  # seconds to wait for the lock; SQLite itself waits twenty for a writer
_CLAIM = 15.0  # seconds within which a claim is made good or withdrawn
_FRESH = 30.0  # seconds a claim keeps others away: longer, as clocks differ; an older one was cut short
_AGAIN = 0.2  # seconds between two looks


def who() -> str:
    """Name who asks: `BY`, or the login name."""
    try:
        return os.environ.get(BY) or getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container may run as a number without a name
        return "unknown"


def move(name: str, entry: Entry, uri: str) -> None:
    """Write an entry and move the alias, if it still points where the entry says.

    Parameters
    ----------
    name : str
        The registered model.
    entry : Entry
        The move; ``before`` must still be where the alias points.
    uri : str
        The store.

    Raises
    ------
    RegistryError
        If the alias was or is being moved by someone else, or the store cannot be written; no entry is left then, but
        where the store itself fails.
    """
    database = _database(uri)
    with _alone(database), registry_errors(uri, "written"):
        found = read_alias(name, entry.alias, uri)
        if found.points_at != entry.before:
            _refuse(name, entry, found)
        client = connect(uri)
        written = replace(entry, at=time.time(), reason=redact(entry.reason)[:LONGEST_NOTE])
        key = f"{PREFIX}{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        client.set_registered_model_tag(name, key, to_tag(written))
        if database is None:
            _win(name, key, entry, uri)
        client.set_registered_model_alias(name, entry.alias, entry.after)


def _win(name: str, key: str, entry: Entry, uri: str) -> None:
    deadline = time.monotonic() + _CLAIM
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
        time.sleep(_AGAIN)


def _claims(found: Reading, before: str | None) -> list[str]:
    """Tags of the fresh entries that leave the same version; what lies before an entry of another one is settled."""
    latest = takewhile(lambda other: other[1].before == before, reversed(found.entries.items()))
    return [key for key, other in latest if other.at > time.time() - _FRESH]


def _refuse(name: str, entry: Entry, found: Reading) -> NoReturn:
    before, now = _named(entry.before), _named(found.points_at)
    if now == before:
        raise RegistryError(
            f"someone else is moving {entry.alias} of {name} away from {before}; look with `hscc registry` in half a "
            "minute and decide again."
        )
    raise RegistryError(
        f"{entry.alias} of {name} moved from {before} to {now} meanwhile; look with `hscc registry` and decide again."
    )


def _named(number: str | None) -> str:
    return "no version" if number is None else f"version {number}"


def _database(uri: str) -> Path | None:
    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


@contextmanager
def _alone(database: Path | None) -> Iterator[None]:
    if database is None:
        yield
        return
    lock = FileLock(database.with_name(f"{database.name}.lock"), timeout=_PATIENCE, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RegistryError(
            f"another process has been moving an alias in {database} for {_PATIENCE:.0f} seconds; let it finish, "
            "or end it."
        ) from error
    try:
        yield
    finally:
        lock.release()
