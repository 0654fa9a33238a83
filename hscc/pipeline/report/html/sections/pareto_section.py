"""Accuracy against what was saved: a point a network, the front, the dense network's band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.names import network_label
from hscc.pipeline.report.html.sections.section import Section
from hscc.pipeline.report.html.seed_means import fold
from hscc.pipeline.report.html.series import Mark, legend, marks
from hscc.pipeline.report.html.svg import GRID, INK, MUTED, STYLE, Drawing, to_svg
from hscc.pipeline.statistics.results import Row, batches, float_rows, pareto_front, signed

WIDTH, HEIGHT = 3.9, 3.1  # inches of 72 units
DODGE = 3.0  # units between methods that reach the same figure, so that their error bars stay apart


def pareto_drawing(rows: Sequence[Row], column: str, label: str, title: str) -> Drawing:
    """Draw test accuracy against a figure of which more is better.

    Parameters
    ----------
    rows : sequence of dict
        A row a network of one protocol, the baseline among them; those without the figure are left out.
    column : str
        ``macs_ratio`` or ``speedup_b<batch>``.
    label : str
        Of the horizontal axis.
    title : str
        Caption.

    Returns
    -------
    Drawing
        Error bars are one standard error of the accuracy, the band is the baseline's, and the dashed line joins the
        networks that no other beats on both counts. Every point says its figures when it is pointed at.
    """
    rows = [row for row in rows if row.get(column) is not None]
    known = marks(rows)
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        _dense_band(axes, next(row for row in rows if row["method"] == DENSE))
        _front(axes, rows, column)
        aside = _asides(known)
        for number, row in enumerate(sorted(rows, key=lambda row: float(row[column]))):
            gid = f"point-{number}"
            _point(axes, row, column, known[row["method"]], aside[row["method"]], gid)
            said[gid] = _words(row, column, label)
        axes.set_xlabel(label)
        axes.set_ylabel("test accuracy, %")
        axes.margins(x=0.08, y=0.12)
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
        axes.xaxis.set_major_locator(MaxNLocator(6))
    name = f"pareto-{column.replace('_', '-')}"
    summary = f"Test accuracy against {label}, {len(rows)} networks. The figures are in the results table."
    return Drawing(name, title, to_svg(figure, name, summary, said), legend(known))


def _dense_band(axes: Axes, dense: Row) -> None:
    middle, error = 100 * dense["accuracy"], 100 * (dense.get("accuracy_se") or 0.0)
    axes.axhspan(middle - error, middle + error, color=GRID, alpha=0.5, linewidth=0)
    axes.axhline(middle, color=MUTED, linewidth=0.8)


def _front(axes: Axes, rows: Sequence[Row], column: str) -> None:
    gains, accuracies = [row[column] for row in rows], [row["accuracy"] for row in rows]
    best = [row for row, on_front in zip(rows, pareto_front(gains, accuracies), strict=True) if on_front]
    best.sort(key=lambda row: float(row[column]))
    xs, ys = [row[column] for row in best], [100 * row["accuracy"] for row in best]
    axes.plot(xs, ys, color=INK, linewidth=0.9, linestyle=(0, (3, 3)), zorder=2)


def _asides(known: Mapping[str, Mark]) -> dict[str, float]:
    """How far each method is drawn from its place, in units; only those that meet at the same budgets step aside."""
    meeting = [method for method, mark in known.items() if method != DENSE and mark.is_plain]
    return {method: 0.0 for method in known} | {
        method: (place - (len(meeting) - 1) / 2) * DODGE for place, method in enumerate(meeting)
    }


def _point(axes: Axes, row: Row, column: str, mark: Mark, aside: float, gid: str) -> None:
    x, y, error = row[column], 100 * row["accuracy"], 100 * (row.get("accuracy_se") or 0.0)
    place = offset_copy(axes.transData, axes.get_figure(root=True), x=aside, units="points")
    style = mark.style()
    if mark.is_control:
        error = 0.0  # the bars are in the ablation
    axes.plot([x, x], [y - error, y + error], color=style["color"], linewidth=0.8, alpha=0.6, zorder=3, transform=place)
    axes.plot([x], [y], linestyle="", zorder=4, transform=place, gid=gid, **style)
    # What is drawn with an offset does not move the limits by itself.
    axes.update_datalim([(x, y - error), (x, y + error)])
    axes.autoscale_view()


def _words(row: Row, column: str, label: str) -> str:
    lines = [network_label(row), f"accuracy {100 * row['accuracy']:.1f} ± {100 * (row.get('accuracy_se') or 0):.1f} %"]
    if row["method"] != DENSE and row.get("accuracy_difference") is not None:
        lines.append(f"{signed(100 * row['accuracy_difference'])} points to dense")
    lines.append(f"{row[column]:.2f} {label}")
    if column != "macs_ratio":
        lines.append(f"{row['macs_ratio']:.1f} times fewer MACs")
    if row["method"] != DENSE and row.get("kl_to_baseline") is not None:
        lines.append(f"KL {row['kl_to_baseline']:.3f}")
    return "\n".join(lines)


_CLOCKS = 2  # batch sizes to draw


def pareto_section(document: Mapping[str, Any]) -> Section:
    """Draw what each network keeps against what it saves.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.

    Returns
    -------
    Section
        A figure of MACs, and one of each of the first batch sizes that were timed.
    """
    own = [row for row in float_rows(document["rows"]) if row["protocol"] == document["protocol"]]
    rows = fold(own, document.get("seeds") or ())
    drawings = [pareto_drawing(rows, "macs_ratio", "times fewer MACs", "What the arithmetic saves")]
    timed = [batch for batch in batches(own) if _is_timed(rows, batch)][:_CLOCKS]
    for batch in timed:
        label = f"times faster, {batch} image{'s' if batch > 1 else ''} at a time"
        title = f"What the clock says, batch {batch}"
        drawings.append(pareto_drawing(rows, f"speedup_b{batch}", label, title))
    content = {"drawings": drawings, "legend": drawings[0].legend}
    return Section("pareto", "Accuracy kept against work saved", content, tuple(drawings))


def _is_timed(rows: list[Row], batch: int) -> bool:
    return any(row.get(f"speedup_b{batch}") is not None for row in rows if row["method"] != DENSE)
