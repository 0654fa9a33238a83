"""F1 of each class, a bar a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from hscc.evaluation.names import class_label, network_label
from hscc.evaluation.results import Row
from hscc.reporting.series import Mark, marks
from hscc.reporting.svg import INK, PAPER, STYLE, Drawing, LegendEntry, series_colour, to_svg


def f1_drawing(rows: Sequence[Row], classes: Sequence[str], title: str) -> Drawing:
    """Draw F1 and its standard error, a block a class and a bar a network.

    Parameters
    ----------
    rows : sequence of dict
        The networks to show, in order.
    classes : sequence of str
        The class names.
    title : str
        Caption.

    Returns
    -------
    Drawing
        Bars start at 0; errors are one bootstrap standard error.
    """
    known = marks(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.9, 0.6 + 0.15 * (len(rows) + 1) * len(classes)), layout="constrained")
        axes = figure.subplots()
        height = 1 / (len(rows) + 1)
        for place, row in enumerate(rows):
            axes.barh(
                np.arange(len(classes)) + (place - (len(rows) - 1) / 2) * height,
                [row[f"f1_{name}"] for name in classes],
                xerr=[row.get(f"f1_{name}_se") or 0.0 for name in classes],
                height=0.82 * height,
                **_bar(known[row["method"]]),
                error_kw={"ecolor": INK, "elinewidth": 0.9},
            )
        axes.set_yticks(np.arange(len(classes)), [class_label(name) for name in classes])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("F1")
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
    names = ", ".join(network_label(row) for row in rows)
    svg = to_svg(figure, "f1", f"F1 of each class with standard errors: {names}")
    return Drawing("f1", title, svg, tuple(_entry(row, known[row["method"]]) for row in rows))


def _entry(row: Row, mark: Mark) -> LegendEntry:
    return LegendEntry(network_label(row), mark.series, "■" if mark.fill == "full" else "□")


def _bar(mark: Mark) -> dict[str, Any]:
    colour = series_colour(mark.series)
    return {"facecolor": colour if mark.fill == "full" else PAPER, "edgecolor": colour, "linewidth": 1.0}
