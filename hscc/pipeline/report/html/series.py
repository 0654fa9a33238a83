"""Colours and marks of methods, the same in every figure of the report.

A method and its variants share a colour and a shape: those that keep to a clock are hollow, those planned for both MACs
and the clock half full. HSCC has the accent of the page, controls are small and grey.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.names import goal, method_label
from hscc.pipeline.report.html.svg import PAPER, SERIES, LegendEntry, series_colour
from hscc.pipeline.statistics.between_methods import SUBJECT
from hscc.pipeline.statistics.rows import BASELINE, COMPARED, CONTROL

ACCENT = 0  # number of the page's accent among the series
GREY = 1  # of the baseline's

_SHAPES = (("o", "●"), ("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("X", "✖"))
_HOLLOW = {"●": "○", "■": "□", "▲": "△", "◆": "◇", "▼": "▽", "✚": "✛", "✖": "✕"}
_HALF = {"●": "◐", "■": "◧", "▲": "◭", "◆": "⬖", "▼": "▽", "✚": "✛", "✖": "✕"}
_CONTROL = "•"
_FILLS = {"": "full", "_timed": "none", "_fast": "left"}


@dataclass(frozen=True)
class Mark:
    """How a method is drawn.

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
    fill: str = "full"
    size: float = 6.0

    @property
    def is_control(self) -> bool:
        """Whether it stands for a control."""
        return self.glyph == _CONTROL

    @property
    def is_plain(self) -> bool:
        """Whether it stands for a method with a budget of MACs alone."""
        return self.fill == "full" and not self.is_control

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


def role(row: Mapping[str, Any]) -> str:
    """Part that a network plays: baseline, compared or control."""
    return str(row.get("role") or (BASELINE if row["method"] == DENSE else COMPARED))


def marks(rows: Iterable[Mapping[str, Any]]) -> dict[str, Mark]:
    """Give each method its mark, in the order of the rows.

    Parameters
    ----------
    rows : iterable of mapping
        Of the results table.

    Returns
    -------
    dict of str to Mark
        By method.
    """
    found: dict[str, Mark] = {}
    bases: dict[str, int] = {}
    for row in rows:
        method = row["method"]
        base = method.removesuffix(goal(method))
        if role(row) == CONTROL:
            found[method] = Mark(GREY, "o", _CONTROL, size=3.5)
        elif base == DENSE:
            found[method] = Mark(GREY, *_SHAPES[GREY])
        elif base == SUBJECT:
            found[method] = _variant(ACCENT, method)
        else:
            index = bases.setdefault(base, 2 + len(bases) % (SERIES - 2))
            found[method] = _variant(index, method)
    return found


def legend(found: Mapping[str, Mark]) -> tuple[LegendEntry, ...]:
    """List what the marks stand for: one entry for all controls, one a method elsewhere."""
    entries = [
        LegendEntry(method_label(method), mark.series, mark.glyph)
        for method, mark in found.items()
        if not mark.is_control
    ]
    if len(entries) < len(found):
        entries.append(LegendEntry("controls", GREY, _CONTROL))
    return tuple(entries)


def _variant(index: int, method: str) -> Mark:
    shape, glyph = _SHAPES[index]
    fill = _FILLS[goal(method)]
    return Mark(index, shape, {"none": _HOLLOW, "left": _HALF}.get(fill, {}).get(glyph, glyph), fill)
