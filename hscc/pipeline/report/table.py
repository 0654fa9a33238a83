"""Tables of the report: what each cell says and what it is sorted by, for the page, for Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from hscc.pipeline.statistics.results import signed
from hscc.pipeline.statistics.schema import AskedBudget, Estimate

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes
    ----------
    text : str
        The figure or the words; empty where there is nothing.
    aside : str
        Error or interval of the figure, shown quieter.
    value : float or None
        What the column is sorted by; None comes last, and words are sorted by their text.
    words : bool
        Whether the text is to be read rather than compared.
    """

    text: str
    aside: str = ""
    value: float | None = None
    words: bool = False

    def __str__(self) -> str:
        """Return all of it on one line, a dash where there is nothing."""
        return " ".join(part for part in (self.text, self.aside) if part) or NONE


@dataclass(frozen=True)
class Column:
    """Head of a column, what it means, and the group in which the page shows or hides it."""

    label: str
    meaning: str = ""
    group: str = ""


@dataclass(frozen=True)
class Line:
    """A row: its head, its cells, what kind of network it is about, and whether it is the network to speak of."""

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
    lines: tuple[Line, ...]

    def texts(self) -> list[tuple[str, ...]]:
        """All rows as text, each with its head first."""
        return [
            (" ".join(part for part in (line.head, line.aside) if part), *map(str, line.cells)) for line in self.lines
        ]

    def words(self) -> list[bool]:
        """Whether each column holds words, the heads of the rows first."""
        return [True, *(any(line.cells[place].words for line in self.lines) for place in range(len(self.columns)))]


T = TypeVar("T")


@dataclass(frozen=True)
class Measure(Generic[T]):
    """A column, and what its cell says of a row."""

    column: Column
    cell: Callable[[T], Cell]


def measure(label: str, cell: Callable[[T], Cell], group: str = "", meaning: str = "") -> Measure[T]:
    """Make a column of a table."""
    return Measure(Column(label, meaning, group), cell)


def cells_of(row: T, measures: Iterable[Measure[T]]) -> tuple[Cell, ...]:
    """Fill one row."""
    return tuple(each.cell(row) for each in measures)


def columns_of(measures: Iterable[Measure[T]]) -> tuple[Column, ...]:
    """Heads of the columns."""
    return tuple(each.column for each in measures)


NOTHING = Cell("")


def words(text: str) -> Cell:
    """Make a cell of words."""
    return Cell(text or NONE, words=True)


def figure(value: float | None, digits: int = 2, unit: str = "", factor: float = 1.0, aside: str = "") -> Cell:
    """Make a cell of a figure; empty for None."""
    if value is None:
        return NOTHING
    minus = "−" if factor * value < 0 else ""
    return Cell(f"{minus}{abs(factor * value):.{digits}f}{unit}", aside, factor * value)


def with_error(found: Estimate, digits: int = 3, factor: float = 1.0) -> Cell:
    """Make a cell of a score ± its standard error."""
    aside = "" if found.se is None else f"± {factor * found.se:.{digits}f}"
    return figure(found.value, digits, factor=factor, aside=aside)


def with_interval(found: Estimate, digits: int = 1, factor: float = 100.0) -> Cell:
    """Make a cell of a score and its 95 % interval."""
    if found.low is None or found.high is None:
        return figure(found.value, digits, factor=factor)
    between = f"({factor * found.low:.{digits}f} to {factor * found.high:.{digits}f})"
    return figure(found.value, digits, factor=factor, aside=between)


def with_spread(value: float | None, spread: float | None, digits: int = 2, unit: str = "") -> Cell:
    """Make a cell of a measured figure and its interquartile range."""
    return figure(value, digits, unit, aside=f"({spread:.{digits}f})" if spread else "")


def difference(found: Estimate | None, digits: int = 1, factor: float = 100.0) -> Cell:
    """Make a cell of a signed difference and its 95 % interval; empty for None."""
    if found is None or found.value is None:
        return NOTHING
    between = ""
    if found.low is not None and found.high is not None:
        between = f"({signed(factor * found.low, digits)} to {signed(factor * found.high, digits)})"
    return signed_figure(found.value, digits, factor, between)


def signed_figure(value: float | None, digits: int = 1, factor: float = 1.0, aside: str = "") -> Cell:
    """Make a cell of a figure with its sign; empty for None."""
    return NOTHING if value is None else Cell(signed(factor * value, digits), aside, factor * value)


def chance(p: float | None) -> Cell:
    """Make a cell of a p-value."""
    return NOTHING if p is None else Cell("< 0.001" if p < 0.001 else f"{p:.3f}", value=p)


_RESOURCES = {"macs": "MACs", "params": "params", "latency": "time"}


def asked_columns(budget_of: Callable[[T], AskedBudget], rows: Sequence[T]) -> list[Measure[T]]:
    """Make one column for each resource of which a row's budget has a ratio."""
    used = {name for row in rows for name in budget_of(row).ratios}
    return [_asked(budget_of, name, label) for name, label in _RESOURCES.items() if name in used]


def _asked(budget_of: Callable[[T], AskedBudget], name: str, label: str) -> Measure[T]:
    def cell(row: T) -> Cell:
        ratio = budget_of(row).ratios.get(name)
        return NOTHING if ratio is None else Cell(f"{ratio:g}×", value=ratio)

    return measure(f"asked: {label}", cell)
