"""matplotlib figures as inline SVG that takes its colours and fonts from the page around it.

matplotlib knows no CSS variables, so figures are drawn in marker colours that are replaced in the text: the same figure
then follows the reader's light or dark scheme.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import escape
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#0000f1", "#0000f2", "#0000f3", "#0000f4"
_NAMED = {INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--card"}
SERIES = 8  # distinct series colours that the page defines
_TITLE, _LINE, _COLUMNS = 24, 13, 2  # above a figure that stands alone: heights in units, entries of the legend a line
_SCALE = 1.6  # pixels a unit

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, selectable, in the page's font
    "svg.hashsalt": "hscc",  # the same figures give the same file
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.4,
}


@dataclass(frozen=True)
class LegendEntry:
    """What a mark stands for: words, the number of its colour, and its shape as text."""

    label: str
    series: int
    glyph: str


@dataclass(frozen=True)
class Drawing:
    """A figure of the report.

    Attributes
    ----------
    name : str
        Its file name without ending; unique in the report.
    title : str
        Caption.
    svg : str
        One inline ``<svg>`` element in the page's colours.
    legend : tuple of LegendEntry
        What its marks stand for; the page may say it once for several figures.
    """

    name: str
    title: str
    svg: str
    legend: tuple[LegendEntry, ...] = ()


def series_colour(index: int) -> str:
    """Marker colour of the series `index`; colours repeat after `SERIES`."""
    return f"#0000e{index % SERIES}"


def to_svg(figure: Figure, name: str, label: str, points: Mapping[str, str] | None = None) -> str:
    """Turn a figure, drawn under `STYLE`, into one inline SVG element.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    name : str
        Put before every id, so that several figures can stand in one page.
    label : str
        What a screen reader says in its place, or before its points.
    points : mapping of str to str, optional
        What to say about a point, by the gid of its artist. Points get a title, a name for screen readers and a place
        in the order of focus; the first is reached by the tab key.

    Returns
    -------
    str
        ``<svg ...>...</svg>`` without fixed size, colours as CSS variables.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text)  # repeated in every figure, referred to by nothing
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text)
    for number, (gid, said) in enumerate((points or {}).items()):
        text = text.replace(f'<g id="{gid}">', _point(said, 0 if number == 0 else -1), 1)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\1{name}-", text)
    role = "group" if points else "img"  # what is inside an image is not spoken
    text = text.replace("<svg ", f'<svg role="{role}" aria-label="{escape(label)}" ', 1)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", text)
    return re.sub(r"#0000[ef]\d", lambda match: f"var({_variable(match.group(0))})", text)


def standalone(drawing: Drawing, colours: str) -> str:
    """Make a file of its own from a figure: with its title and legend, on a ground of the page's colour.

    Parameters
    ----------
    drawing : Drawing
        The figure.
    colours : str
        CSS that sets the variables on ``:root``.

    Returns
    -------
    str
        SVG that any browser shows, light or dark.
    """
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing.svg)
    assert size is not None  # matplotlib writes one
    width, height = float(size.group(1)), float(size.group(2))
    above = _TITLE + 6 + _LINE * math.ceil(len(drawing.legend) / _COLUMNS)
    box = (
        f'width="{_SCALE * width:.0f}" height="{_SCALE * (height + above):.0f}" '
        f'viewBox="0 {-above} {width:g} {height + above:g}"'
    )
    ground = ":root { background: var(--card); --font: sans-serif; } text { white-space: pre; }"
    style = f"<style>{colours} {ground}</style>"
    head = f'<text x="8" y="{14 - above}" style="{_font(10)} font-weight: 600">{escape(drawing.title)}</text>'
    entries = "".join(
        _entry(entry, 8 + place % _COLUMNS * width / _COLUMNS, _TITLE + 4 - above + _LINE * (place // _COLUMNS))
        for place, entry in enumerate(drawing.legend)
    )
    return drawing.svg.replace(size.group(0), box, 1).replace(">", f">{style}{head}{entries}", 1) + "\n"


def _entry(entry: LegendEntry, x: float, y: float) -> str:
    mark = f'<tspan style="fill: var(--series-{entry.series})">{entry.glyph}</tspan>'
    return f'<text x="{x:g}" y="{y + 8:g}" style="{_font(8)}">{mark}  {escape(entry.label)}</text>'


def _font(size: int) -> str:
    return f"font: {size}px var(--font); fill: var(--ink);"


def _point(said: str, order: int) -> str:
    words = str(escape(said)).replace("\n", "&#10;")
    return f'<g class="point" tabindex="{order}" role="img" aria-label="{words}"><title>{words}</title>'


def _variable(colour: str) -> str:
    return _NAMED.get(colour) or f"--series-{colour[-1]}"
