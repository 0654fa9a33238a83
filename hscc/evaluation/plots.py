"""The report's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from hscc.evaluation.names import class_label
from hscc.evaluation.networks import DENSE
from hscc.evaluation.pareto import pareto_front
from hscc.evaluation.results import Row
from hscc.evaluation.svg import GRID, INK, MUTED, STYLE, series_colour, to_svg

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
GLYPHS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "⬢")  # the same shapes as text, for the legend
WIDTH, HEIGHT = 4.2, 3.0  # inches of 72 units
DODGE = 4.0  # units between methods that reach the same figure, so that their error bars stay apart


def series_of(rows: Sequence[Row]) -> dict[str, int]:
    """Give each method a number, the baseline 0, so that it keeps its colour and marker throughout."""
    return {method: index for index, method in enumerate(dict.fromkeys([DENSE, *(row["method"] for row in rows)]))}


def pareto_figure(rows: Sequence[Row], column: str, label: str) -> str:
    """Draw test accuracy against a figure of which more is better.

    Parameters
    ----------
    rows : sequence of dict
        Networks of one protocol, the baseline among them.
    column : str
        ``macs_ratio`` or ``speedup_b<batch>``; drawn with its interquartile range where the rows have one.
    label : str
        Of the horizontal axis.

    Returns
    -------
    str
        Inline SVG; error bars are one standard error of the accuracy, the band is the baseline's, and the dashed
        line joins the networks that no other beats on both counts.
    """
    rows = [row for row in rows if row[column] is not None]
    series = series_of(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        _dense_band(axes, next(row for row in rows if row["method"] == DENSE))
        _front(axes, rows, column)
        for method, index in series.items():
            aside = index - (len(series) - 1) / 2 if method != DENSE else 0.0
            _points(axes, [row for row in rows if row["method"] == method], column, index, aside * DODGE)
        axes.set_xlabel(label)
        axes.set_ylabel("test accuracy, %")
        axes.margins(x=0.08, y=0.12)
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
        axes.xaxis.set_major_locator(MaxNLocator(6))
    return to_svg(figure, f"Test accuracy against {label}")


def _dense_band(axes: Axes, dense: Row) -> None:
    middle, error = 100 * dense["accuracy"], 100 * dense["accuracy_se"]
    axes.axhspan(middle - error, middle + error, color=GRID, alpha=0.5, linewidth=0)
    axes.axhline(middle, color=MUTED, linewidth=0.8)


def _front(axes: Axes, rows: Sequence[Row], column: str) -> None:
    gains, accuracies = [row[column] for row in rows], [row["accuracy"] for row in rows]
    best = [row for row, on_front in zip(rows, pareto_front(gains, accuracies), strict=True) if on_front]
    best.sort(key=lambda row: row[column])
    xs, ys = [row[column] for row in best], [100 * row["accuracy"] for row in best]
    axes.plot(xs, ys, color=INK, linewidth=0.9, linestyle=(0, (3, 3)), zorder=2)


def _points(axes: Axes, rows: Sequence[Row], column: str, index: int, aside: float) -> None:
    xs, ys = np.array([row[column] for row in rows]), 100 * np.array([row["accuracy"] for row in rows])
    right, up = (
        np.array([_spread(row, column) / 2 for row in rows]),
        100 * np.array([row["accuracy_se"] for row in rows]),
    )
    axes.errorbar(
        xs,
        ys,
        xerr=right if right.any() else None,
        yerr=up,
        fmt=MARKERS[index % len(MARKERS)],
        color=series_colour(index),
        markersize=6,
        elinewidth=1.0,
        zorder=3,
        transform=offset_copy(axes.transData, axes.get_figure(root=True), x=aside, units="points"),
    )
    # What is drawn with an offset does not move the limits by itself.
    axes.update_datalim(np.concatenate([np.stack([xs - right, ys - up], 1), np.stack([xs + right, ys + up], 1)]))
    axes.autoscale_view()


def _spread(row: Row, column: str) -> float:
    return float(row.get(f"{column}_iqr") or 0.0)


def f1_figure(rows: Sequence[Row], classes: Sequence[str], series: Mapping[str, int]) -> str:
    """Draw F1 and its standard error, a block a class and a bar a network.

    Parameters
    ----------
    rows : sequence of dict
        The networks to show, in order.
    classes : sequence of str
        The class names.
    series : mapping of str to int
        Of `series_of`, for the same colours as elsewhere.

    Returns
    -------
    str
        Inline SVG; bars start at 0.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 0.16 * (len(rows) + 1) * len(classes)), layout="constrained")
        axes = figure.subplots()
        height = 1 / (len(rows) + 1)
        for place, row in enumerate(rows):
            axes.barh(
                np.arange(len(classes)) + (place - (len(rows) - 1) / 2) * height,
                [row[f"f1_{name}"] for name in classes],
                xerr=[row[f"f1_{name}_se"] for name in classes],
                height=0.82 * height,
                color=series_colour(series[row["method"]]),
                error_kw={"ecolor": INK, "elinewidth": 0.9},
            )
        axes.set_yticks(np.arange(len(classes)), [class_label(name) for name in classes])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("F1")
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
    return to_svg(figure, "F1 of each class with standard errors")


def curves_figure(histories: Mapping[str, pd.DataFrame], quantity: str, label: str, factor: float = 1.0) -> str:
    """Draw a training curve a protocol: validation solid, training dashed.

    Parameters
    ----------
    histories : mapping of str to pandas.DataFrame
        By protocol; columns ``epoch``, ``train_<quantity>``, ``val_<quantity>``.
    quantity : str
        ``accuracy`` or ``loss``.
    label : str
        Of the vertical axis.
    factor : float
        What the values are multiplied by.

    Returns
    -------
    str
        Inline SVG.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        for index, history in enumerate(histories.values()):
            colour = series_colour(index)
            axes.plot(history["epoch"], factor * history[f"val_{quantity}"], color=colour)
            axes.plot(history["epoch"], factor * history[f"train_{quantity}"], color=colour, linestyle=(0, (2, 2)))
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return to_svg(figure, f"{label} by epoch")
