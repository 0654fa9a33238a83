"""Aliases and the trail they leave.

MLflow moves an alias in one transaction. The trail, a tag an entry on the registered model, is written before the
move: a kill in between leaves an entry whose move did not happen, which the next entry or the alias itself gives away;
never a move without an entry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from hscc.redaction import redact
from hscc.registry.connection import RegistryError, as_registry_error, connect

CHAMPION, CHALLENGER = "champion", "challenger"
PROMOTE, ROLLBACK = "promote", "rollback"

_PREFIX = "audit."
_LONGEST = 5000  # characters MLflow keeps of a tag
_LONGEST_NOTE = 400  # of a reason, or of one finding


@dataclass(frozen=True)
class Entry:
    """One move of an alias.

    Attributes
    ----------
    action : str
        ``promote`` or ``rollback``.
    alias : str
        What moved.
    before : str or None
        Version it left; None for the first.
    after : str
        Version it went to.
    by : str
        Who asked for it.
    reason : str
        Why, in the words of who asked.
    forced : bool
        Whether rules were overruled.
    findings : tuple of str
        What the rules said, those that failed first.
    at : float
        When, in seconds since 1970; set when it is written.
    done : bool
        Whether the move happened; found out when the trail is read.
    """

    action: str
    alias: str
    before: str | None
    after: str
    by: str
    reason: str
    forced: bool = False
    findings: tuple[str, ...] = ()
    at: float = 0.0
    done: bool = True


def set_alias(name: str, alias: str, number: str, uri: str) -> None:
    """Point an alias of a registered model at a version, wherever it pointed before, without a trail."""
    with as_registry_error(uri, "written"):
        connect(uri).set_registered_model_alias(name, alias, number)


def move(name: str, entry: Entry, uri: str) -> None:
    """Write an entry and move the alias.

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
        If the alias was moved by someone else meanwhile, or the store cannot be written.
    """
    with as_registry_error(uri, "written"):
        client = connect(uri)
        current = alias_of(name, entry.alias, uri)
        if current != entry.before:
            raise RegistryError(
                f"{entry.alias} of {name} moved from version {entry.before} to {current} meanwhile; look with "
                "`hscc registry` and decide again."
            )
        written = replace(entry, at=time.time(), reason=redact(entry.reason)[:_LONGEST_NOTE])
        client.set_registered_model_tag(name, f"{_PREFIX}{time.time_ns():020d}", _to_tag(written))
        client.set_registered_model_alias(name, entry.alias, entry.after)


def alias_of(name: str, alias: str, uri: str) -> str | None:
    """Number of the version that an alias points at; None where it points nowhere."""
    from mlflow.exceptions import MlflowException

    with as_registry_error(uri):
        try:
            found = connect(uri).get_registered_model(name).aliases.get(alias)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
    return None if found is None else str(found)


def read_trail(name: str, alias: str, uri: str) -> list[Entry]:
    """Read the moves of an alias, oldest first, each with whether it happened."""
    from mlflow.exceptions import MlflowException

    with as_registry_error(uri):
        try:
            tags = connect(uri).get_registered_model(name).tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return []
    entries = [_from_tag(value) for key, value in sorted(tags.items()) if key.startswith(_PREFIX)]
    own = [entry for entry in entries if entry.alias == alias]
    if not own:
        return []
    reached = [*(entry.before for entry in own[1:]), alias_of(name, alias, uri)]
    return [replace(entry, done=entry.after == found) for entry, found in zip(own, reached, strict=True)]


def predecessor(trail: Sequence[Entry], current: str) -> str | None:
    """Version that the current one took the place of when it was last promoted; None for the first."""
    promoted = [entry for entry in trail if entry.done and entry.action == PROMOTE and entry.after == current]
    return promoted[-1].before if promoted else None


def _to_tag(entry: Entry) -> str:
    found = {**asdict(entry), "findings": [text[:_LONGEST_NOTE] for text in entry.findings]}
    del found["done"]
    text = json.dumps(found, ensure_ascii=False)
    return text if len(text) <= _LONGEST else json.dumps({**found, "findings": []}, ensure_ascii=False)


def _from_tag(text: str) -> Entry:
    found = json.loads(text)
    return Entry(**{**found, "findings": tuple(found["findings"])})
