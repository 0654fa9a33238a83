"""HSCC without one of its ideas: a line a network, a mark a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hscc.pipeline.names import method_label
from hscc.pipeline.report.html.sections.section import (
    Absent,
    Column,
    Line,
    Section,
    Table,
    chance,
    difference,
    figure,
    with_error,
    words,
)
from hscc.pipeline.report.html.svg import STYLE, Drawing, LegendEntry, series_colour, to_svg

WIDTH = 3.9  # inches of 72 units
SHAPES = (("^", "▲", 4), ("s", "■", 3), ("o", "●", 0))  # marker, the same as text, number of the colour
PANELS = (
    ("val_kl_before", "KL before fine-tuning, nats", "Fidelity before fine-tuning", 1.0),
    ("kl_to_baseline", "KL after fine-tuning, nats", "Fidelity after fine-tuning", 1.0),
    ("accuracy", "test accuracy, %", "Accuracy after fine-tuning", 100.0),
)


def ablation_drawings(entries: Sequence[dict[str, Any]]) -> list[Drawing]:
    """Draw the ablation: what each network without one idea reaches at each budget.

    Parameters
    ----------
    entries : sequence of dict
        The document's ``ablation``; figures that are None are left out.

    Returns
    -------
    list of Drawing
        A panel each of KL before fine-tuning, KL after it, and accuracy; a panel without figures is left out. Bars
        are one bootstrap standard error.
    """
    return [_panel(entries, *panel) for panel in PANELS if any(entry.get(panel[0]) is not None for entry in entries)]


def _legend(entries: Sequence[dict[str, Any]]) -> tuple[LegendEntry, ...]:
    marks = zip(_budgets(entries), _shapes(entries), strict=True)
    return tuple(LegendEntry(f"{budget:g}×", series, glyph) for budget, (_, glyph, series) in marks)


def _budgets(entries: Sequence[dict[str, Any]]) -> list[float]:
    return sorted({entry["budget"] for entry in entries})


def _shapes(entries: Sequence[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """The last of the marks for the last of the budgets, so that the accent is where compression is strongest."""
    wanted = len(_budgets(entries))
    return [SHAPES[(place - wanted) % len(SHAPES)] for place in range(wanted)]


def _panel(entries: Sequence[dict[str, Any]], column: str, label: str, title: str, factor: float) -> Drawing:
    methods = list(dict.fromkeys(entry["method"] for entry in entries))
    budgets, shapes = _budgets(entries), _shapes(entries)
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.3 * len(methods)), layout="constrained")
        axes = figure.subplots()
        for number, entry in enumerate(entries):
            if entry.get(column) is None:
                continue
            place = budgets.index(entry["budget"])
            y = methods.index(entry["method"]) + 0.22 * (place - (len(budgets) - 1) / 2)
            x, error = factor * entry[column], factor * (entry.get(f"{column}_se") or 0.0)
            marker, _, series = shapes[place]
            colour, gid = series_colour(series), f"point-{number}"
            axes.plot([x - error, x + error], [y, y], color=colour, linewidth=1.0, alpha=0.6, zorder=3)
            axes.plot([x], [y], linestyle="", marker=marker, color=colour, markersize=5.0, zorder=4, gid=gid)
            spread = f" ± {error:.3g}" if error else ""
            said[gid] = f"{method_label(entry['method'])}, {entry['budget']:g}×\n{label}: {x:.3g}{spread}"
        axes.set_yticks(np.arange(len(methods)), [method_label(method) for method in methods])
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if factor == 1.0:
            axes.set_xlim(left=0.0)
    name = f"ablation-{column.replace('_', '-')}"
    return Drawing(name, title, to_svg(figure, name, f"{title}, {label}, by method and budget", said), _legend(entries))


HEADING = "What each idea is worth"
_COLUMNS = (
    Column("lacks"),
    Column("held against"),
    Column("KL before, nats"),
    Column("KL after, nats"),
    Column("difference of KL"),
    Column("accuracy, %"),
    Column("difference, points"),
    Column("p, Holm"),
)


def ablation_section(document: Mapping[str, Any]) -> Section | Absent:
    """Lay out the ablation.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.

    Returns
    -------
    Section or Absent
        Absent where no control was run.
    """
    entries: Sequence[dict[str, Any]] = document.get("ablation") or ()
    if not entries:
        return Absent(HEADING, "no control was run (compress.cells in params.yaml).")
    table = Table(
        "Each control minus the method that has what it lacks, on the same images, with 95 % intervals",
        "network",
        _COLUMNS,
        tuple(_line(entry) for entry in entries),
    )
    drawings = ablation_drawings(entries)
    content = {"table": table, "drawings": drawings, "legend": drawings[0].legend if drawings else ()}
    return Section("ablation", HEADING, content, tuple(drawings))


def _line(entry: Mapping[str, Any]) -> Line:
    against = entry.get("against")
    return Line(
        f"{method_label(entry['method'])}, {entry['budget']:g}×",
        (
            words(entry.get("lacks") or "–"),
            words(method_label(against) if against else "–"),
            figure(entry.get("val_kl_before"), 3),
            with_error(entry, "kl_to_baseline"),
            difference(entry, "kl_difference", 3, 1.0),
            with_error(entry, "accuracy", 1, 100.0),
            difference(entry, "accuracy_difference"),
            chance(entry.get("mcnemar_p_holm")),
        ),
    )
