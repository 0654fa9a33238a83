"""The trail that the moves of an alias leave: a tag an entry on the registered model.

An entry is written before its alias moves (`hscc.pipeline.registry.aliases`): a kill in between leaves an
entry whose move did not happen, which the next entry or the alias itself gives away; never a move without an entry.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from hscc.pipeline.registry.connection import connect, registry_errors

CHAMPION, CHALLENGER = "champion", "challenger"
PROMOTE, ROLLBACK, REGISTER = "promote", "rollback", "register"

PREFIX = "audit."  # of the tags
LONGEST_NOTE = 400  # characters of a reason, or of one finding

_LONGEST = 5000  # characters MLflow keeps of a tag


@dataclass(frozen=True)
class Entry:
    """One move of an alias.

    Attributes
    ----------
    action : str
        ``promote``, ``rollback`` or ``register``.
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


@dataclass(frozen=True)
class Reading:
    """What the registry says of one alias at one moment: where it points, and its entries by tag, oldest first."""

    points_at: str | None
    entries: dict[str, Entry]


def read_alias(name: str, alias: str, uri: str) -> Reading:
    """Read an alias and its trail in one request; empty where there is no such model.

    Raises
    ------
    RegistryError
        If the store cannot be read.
    """
    from mlflow.exceptions import MlflowException

    with registry_errors(uri):
        try:
            found = connect(uri).get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return Reading(None, {})
    entries = {key: _from_tag(value) for key, value in sorted(found.tags.items()) if key.startswith(PREFIX)}
    number = found.aliases.get(alias)
    return Reading(
        None if number is None else str(number), {key: entry for key, entry in entries.items() if entry.alias == alias}
    )


def alias_of(name: str, alias: str, uri: str) -> str | None:
    """Number of the version that an alias points at; None where it points nowhere."""
    return read_alias(name, alias, uri).points_at


def read_trail(name: str, alias: str, uri: str) -> list[Entry]:
    """Read the moves of an alias, oldest first, each with whether it happened."""
    found = read_alias(name, alias, uri)
    entries = list(found.entries.values())
    reached = [*(entry.before for entry in entries[1:]), found.points_at]
    return [replace(entry, done=entry.after == end) for entry, end in zip(entries, reached, strict=False)]


def predecessor(trail: Sequence[Entry], current: str) -> str | None:
    """Version that the current one took the place of when it was last promoted; None for the first."""
    promoted = [entry for entry in trail if entry.done and entry.action == PROMOTE and entry.after == current]
    return promoted[-1].before if promoted else None


def to_tag(entry: Entry) -> str:
    """Write an entry as the value of a tag; what the rules said is left out where MLflow would cut it off."""
    found = {**asdict(entry), "findings": [text[:LONGEST_NOTE] for text in entry.findings]}
    del found["done"]
    text = json.dumps(found, ensure_ascii=False)
    return text if len(text) <= _LONGEST else json.dumps({**found, "findings": []}, ensure_ascii=False)


def _from_tag(text: str) -> Entry:
    found = json.loads(text)
    return Entry(**{**found, "findings": tuple(found["findings"])})
