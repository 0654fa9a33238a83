"""What is proposed for ``params.yaml``, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hscc.errors import DataError


@dataclass(frozen=True)
class Choice:
    """A value of ``params.yaml``.

    Attributes
    ----------
    key : str
        Dotted name, such as ``data.channels``.
    value : object
        As YAML holds it: text, number, list, mapping or None.
    why : str
        What in the data it follows from; empty for what goes without saying, which is not printed.
    check : str
        What the user should look at.
    comment : str
        Written behind the value in the file, in place of what stands there.
    """

    key: str
    value: object
    why: str = ""
    check: str = ""
    comment: str = ""


@dataclass(frozen=True)
class Proposal:
    """What one kind of data comes to.

    Attributes
    ----------
    kind : str
        In words, such as "one folder per class".
    choices : tuple of Choice
        In the order of the file; of two for one key the later holds.
    warnings : tuple of str
        What will stop or mislead `hscc validate`, with the fix.
    """

    kind: str
    choices: tuple[Choice, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def values(self) -> dict[str, object]:
        """Values by dotted name."""
        return {choice.key: choice.value for choice in self.choices}

    def lines(self) -> Iterator[str]:
        """One line per value that says why it is proposed."""
        for choice in self.choices:
            if choice.why:
                check = f" Check: {choice.check}." if choice.check else ""
                yield f"{choice.key}: {_shown(choice.value)} - {choice.why}.{check}"


class UnsuitableDataError(DataError):
    """The data is of this kind, but something in it has to change before the pipeline can use it."""


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        few = [_shown(item) for item in value[:8]]
        return f"[{', '.join(few)}{f', {len(value) - 8} more' if len(value) > 8 else ''}]"
    return str(value)
