"""Tables of the report as plain data: what a cell says, and what it is sorted by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hscc.pipeline.report.html.svg import Drawing
from hscc.pipeline.statistics.results import signed


@dataclass(frozen=True)
class Cell:
    """One figure of a table.

    Attributes
    ----------
    text : str
        The figure; empty where there is none.
    aside : str
        Its error or interval, shown quieter.
    value : float or None
        What the column is sorted by; None comes last, and words are sorted by their text.
    words : bool
        Whether the text is to be read rather than compared.
    """

    text: str
    aside: str = ""
    value: float | None = None
    words: bool = False


@dataclass(frozen=True)
class Column:
    """Head of a column: its words, what they mean, and the group in which it is shown or hidden."""

    label: str
    meaning: str = ""
    group: str = ""


@dataclass(frozen=True)
class Line:
    """A row: its head, its cells, and what kind of network it is about."""

    head: str
    cells: tuple[Cell, ...]
    kind: str = ""
    aside: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first column holds the heads of the rows."""

    caption: str
    first: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...] = field(default=())


NOTHING = Cell("")


def words(text: str) -> Cell:
    """Make a cell of words."""
    return Cell(text, words=True)


def figure(value: float | None, digits: int = 2, unit: str = "", factor: float = 1.0, aside: str = "") -> Cell:
    """Make a cell of a bare figure; empty for None."""
    if value is None:
        return NOTHING
    minus = "−" if factor * value < 0 else ""
    return Cell(f"{minus}{abs(factor * value):.{digits}f}{unit}", aside, factor * value)


def signed_figure(value: float | None, digits: int = 1, factor: float = 1.0, aside: str = "") -> Cell:
    """Make a cell of a figure with its sign; empty for None."""
    return NOTHING if value is None else Cell(signed(factor * value, digits), aside, factor * value)


def with_error(row: Mapping[str, Any], name: str, digits: int = 3, factor: float = 1.0) -> Cell:
    """Make a cell of a score ± its standard error, both from a row's columns."""
    error = row.get(f"{name}_se")
    aside = "" if error is None else f"± {factor * error:.{digits}f}"
    return figure(row.get(name), digits, factor=factor, aside=aside)


def with_spread(row: Mapping[str, Any], name: str, digits: int = 2, unit: str = "") -> Cell:
    """Make a cell of a measured figure and its interquartile range."""
    spread = row.get(f"{name}_iqr")
    return figure(row.get(name), digits, unit, aside="" if not spread else f"({spread:.{digits}f})")


def difference(row: Mapping[str, Any], name: str, digits: int = 1, factor: float = 100.0) -> Cell:
    """Make a cell of a signed difference and its 95 % interval; `name` as in ``accuracy_difference``."""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    between = (
        "" if low is None or high is None else f"{signed(factor * low, digits)} to {signed(factor * high, digits)}"
    )
    return signed_figure(row.get(name), digits, factor, between)


def chance(p: float | None) -> Cell:
    """Make a cell of a p-value."""
    if p is None:
        return NOTHING
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}", value=p)


@dataclass(frozen=True)
class Section:
    """One section of the report.

    Attributes
    ----------
    name : str
        Its anchor; ``<name>.html.jinja`` shows it.
    heading : str
        Its title.
    content : mapping of str to Any
        What the template sees.
    drawings : tuple of Drawing
        The figures among the content, to be kept as files too.
    """

    name: str
    heading: str
    content: Mapping[str, Any] = field(default_factory=dict)
    drawings: tuple[Drawing, ...] = ()


@dataclass(frozen=True)
class Absent:
    """A section that is left out, and why."""

    heading: str
    why: str
