"""The audit log of a registered model's aliases: one entry per change, each a tag on the registered model.

An entry is written before its alias is set (`hscc.pipeline.registry.aliases`). A kill in between leaves an entry
whose change did not happen, which the next entry or the alias itself shows; there is never a change without an entry.
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
    """One change of an alias.

    Attributes
    ----------
    action : str
        ``promote``, ``rollback`` or ``register``.
    alias : str
        The alias.
    before : str or None
        Version it pointed at; None for none.
    after : str
        Version it points at since.
    by : str
        The user.
    reason : str
        Why, in the user's words.
    forced : bool
        Whether failing rules were overruled.
    findings : tuple of str
        Result of every rule, those that failed first.
    at : float
        When, in seconds since 1970; set when it is written.
    done : bool
        Whether the change happened; determined when the log is read.
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
class AliasState:
    """One alias at one moment: the version that it points at, and its entries by tag, oldest first."""

    points_at: str | None
    entries: dict[str, Entry]


def read_alias(name: str, alias: str, uri: str) -> AliasState:
    """Read an alias and its entries in one request; empty where there is no such model.

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
            return AliasState(None, {})
    number = found.aliases.get(alias)
    entries = {key: _from_tag(value) for key, value in sorted(found.tags.items()) if key.startswith(PREFIX)}
    own = {key: entry for key, entry in entries.items() if entry.alias == alias}
    return AliasState(None if number is None else str(number), own)


def alias_of(name: str, alias: str, uri: str) -> str | None:
    """Number of the version that an alias points at; None where it points nowhere."""
    return read_alias(name, alias, uri).points_at


def read_audit_log(name: str, alias: str, uri: str) -> list[Entry]:
    """Read the changes of an alias, oldest first, each with whether it happened."""
    found = read_alias(name, alias, uri)
    entries = list(found.entries.values())
    reached = [*(entry.before for entry in entries[1:]), found.points_at]
    return [replace(entry, done=entry.after == end) for entry, end in zip(entries, reached, strict=False)]


def predecessor(log: Sequence[Entry], current: str) -> str | None:
    """Version that the current one replaced when it was last promoted; None for the first."""
    promoted = [entry for entry in log if entry.done and entry.action == PROMOTE and entry.after == current]
    return promoted[-1].before if promoted else None


def to_tag(entry: Entry) -> str:
    """Write an entry as the value of a tag; without its findings where MLflow would cut it off."""
    found = {**asdict(entry), "findings": [text[:LONGEST_NOTE] for text in entry.findings]}
    del found["done"]
    text = json.dumps(found, ensure_ascii=False)
    return text if len(text) <= _LONGEST else json.dumps({**found, "findings": []}, ensure_ascii=False)


def _from_tag(text: str) -> Entry:
    found = json.loads(text)
    return Entry(**{**found, "findings": tuple(found["findings"])})
