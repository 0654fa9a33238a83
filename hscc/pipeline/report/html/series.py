"""Colours and marks of methods, the same in every figure of the page.

A method has one colour and one shape, filled where the budget is in MACs or parameters, hollow where it is in time,
half full where it is in both. HSCC has the accent of the page, controls are small and grey.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hscc.pipeline.names import method_label
from hscc.pipeline.report.html.svg import PAPER, SERIES, LegendEntry, series_colour
from hscc.pipeline.statistics.between_methods import SUBJECT
from hscc.pipeline.statistics.schema import DENSE, NetworkRow

ACCENT = 0  # number of the page's accent among the series
GREY = 1  # of the dense network's

_SHAPES = (("o", "●"), ("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("X", "✖"))
_HOLLOW = {"●": "○", "■": "□", "▲": "△", "◆": "◇", "▼": "▽", "✚": "✛", "✖": "✕"}
_HALF = {"●": "◐", "■": "◧", "▲": "◭", "◆": "⬖", "▼": "▽", "✚": "✛", "✖": "✕"}
_CONTROL = "•"

Fill = Literal["full", "left", "none"]
_ASKED: dict[Fill, str] = {"full": "", "left": ", MACs and time asked", "none": ", time asked"}

Key = tuple[str, Fill]
"""Method, and how its mark is filled."""


@dataclass(frozen=True)
class Mark:
    """How a method with one kind of budget is drawn.

    Attributes
    ----------
    series : int
        Number of its colour.
    shape : str
        matplotlib's marker.
    glyph : str
        The same shape as text.
    fill : str
        matplotlib's fill style: full, left or none.
    size : float
        Points.
    """

    series: int
    shape: str
    glyph: str
    fill: Fill = "full"
    size: float = 6.0

    @property
    def is_control(self) -> bool:
        """Whether it stands for a control."""
        return self.glyph == _CONTROL

    def style(self) -> dict[str, Any]:
        """Keyword arguments of matplotlib's ``plot``."""
        colour = series_colour(self.series)
        return {
            "marker": self.shape,
            "color": colour,
            "markersize": self.size,
            "fillstyle": "left" if self.fill == "left" else "full",
            "markerfacecolor": PAPER if self.fill == "none" else colour,
            "markerfacecoloralt": PAPER,
        }


def key_of(row: NetworkRow) -> Key:
    """Key of a network's mark."""
    if row.budget.latency is None:
        return row.method, "full"
    return row.method, "none" if set(row.budget.ratios) == {"latency"} else "left"


def marks(rows: Iterable[NetworkRow]) -> dict[Key, Mark]:
    """Give each method and kind of budget its mark, in the order of the rows."""
    found: dict[Key, Mark] = {}
    numbers = {DENSE: GREY, SUBJECT: ACCENT}
    others: dict[str, int] = {}
    for row in rows:
        method, fill = key_of(row)
        if row.role == "control":
            found[method, fill] = Mark(GREY, "o", _CONTROL, size=3.5)
            continue
        number = numbers.get(method)
        if number is None:
            number = others.setdefault(method, 2 + len(others) % (SERIES - 2))
        shape, glyph = _SHAPES[number]
        glyphs: dict[Fill, dict[str, str]] = {"none": _HOLLOW, "left": _HALF}
        found[method, fill] = Mark(number, shape, glyphs.get(fill, {}).get(glyph, glyph), fill)
    return found


def legend(found: Mapping[Key, Mark]) -> tuple[LegendEntry, ...]:
    """List what the marks stand for, with one entry for all controls."""
    entries = [
        LegendEntry(f"{method_label(method)}{_ASKED[fill]}", mark.series, mark.glyph)
        for (method, fill), mark in found.items()
        if not mark.is_control
    ]
    if len(entries) < len(found):
        entries.append(LegendEntry("controls", GREY, _CONTROL))
    return tuple(entries)
