"""matplotlib figures as inline SVG that takes its colours and fonts from the page around it.

matplotlib knows no CSS variables, so figures are drawn in marker colours that are replaced in the text: the same figure
then follows the reader's light or dark scheme.
"""

from __future__ import annotations

import io
import re
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER = "#0000f1", "#0000f2", "#0000f3", "#0000f4"
_NAMED = {INK: "--ink", MUTED: "--muted", GRID: "--line", PAPER: "--paper"}
SERIES = 8  # distinct series colours that the page defines

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
    "lines.linewidth": 1.4,
}


def series_colour(index: int) -> str:
    """Marker colour of the series `index`; colours repeat after `SERIES`."""
    return f"#0000e{index % SERIES}"


def to_svg(figure: Figure, label: str) -> str:
    """Turn a figure, drawn under `STYLE`, into one inline SVG element.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    label : str
        What a screen reader says in its place.

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
    text = text.replace("<svg ", f'<svg role="img" aria-label="{_escape(label)}" ', 1)
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--font)", text)
    return re.sub(r"#0000[ef]\d", lambda match: f"var({_variable(match.group(0))})", text)


def _variable(colour: str) -> str:
    return _NAMED.get(colour) or f"--series-{colour[-1]}"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
