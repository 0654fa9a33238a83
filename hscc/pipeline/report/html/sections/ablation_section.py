"""HSCC without one of its ideas: one line per method, one mark per budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hscc.pipeline.names import budget_label, method_label
from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.html.svg import STYLE, Drawing, LegendEntry, series_colour, to_svg
from hscc.pipeline.report.tables.comparison_tables import ablation_table
from hscc.pipeline.score_names import score_label, score_title
from hscc.pipeline.statistics.schema import AblationRow, AskedBudget, Estimate, Results

HEADING = "What each idea contributes"
WIDTH = 3.9  # inches of 72 units
SHAPES = (("^", "▲", 4), ("s", "■", 3), ("o", "●", 0))  # marker, the same as text, number of the colour

Score = Callable[[AblationRow], Estimate]
PANELS: tuple[tuple[str, Score, str, str, float], ...] = (
    (
        "val-kl-before",
        lambda entry: Estimate(value=entry.val_kl_before),
        "KL before fine-tuning, nats",
        "Fidelity before fine-tuning",
        1.0,
    ),
    ("kl", lambda entry: entry.kl, "KL after fine-tuning, nats", "Fidelity after fine-tuning", 1.0),
    ("{}", lambda entry: entry.primary, "test {}, %", "{} after fine-tuning", 100.0),
)


def ablation_section(results: Results) -> Section | Absent:
    """Lay out the ablation; absent where no control was run."""
    entries = results.ablation
    if not entries:
        return Absent(HEADING, "no control was run (compress.controls in params.yaml).")
    drawings = ablation_drawings(entries)
    content = {
        "table": ablation_table(entries),
        "drawings": drawings,
        "legend": drawings[0].legend if drawings else (),
    }
    return Section("ablation", HEADING, content, tuple(drawings))


def ablation_drawings(entries: Sequence[AblationRow]) -> list[Drawing]:
    """Draw what each method without one idea reaches at each budget.

    Returns
    -------
    list of Drawing
        One panel each for KL before fine-tuning, KL after it, and the primary score; a panel without figures is left
        out. Bars are one bootstrap standard error.
    """
    score = entries[0].score
    label, title = score_label(score), score_title(score)
    return [
        _panel(entries, name.format(score), figure, axis.format(label), heading.format(title), factor)
        for name, figure, axis, heading, factor in PANELS
        if any(figure(entry).value is not None for entry in entries)
    ]


def _budgets(entries: Sequence[AblationRow]) -> list[AskedBudget]:
    found = dict.fromkeys(entry.budget for entry in entries)
    return sorted(found, key=lambda budget: tuple(budget.ratios.values()))


def _shapes(count: int) -> list[tuple[str, str, int]]:
    """The last of the marks for the last of the budgets, so that the accent is where compression is strongest."""
    return [SHAPES[(place - count) % len(SHAPES)] for place in range(count)]


def _panel(entries: Sequence[AblationRow], name: str, score: Score, label: str, title: str, factor: float) -> Drawing:
    methods = list(dict.fromkeys(entry.method for entry in entries))
    budgets = _budgets(entries)
    shapes = _shapes(len(budgets))
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.7 + 0.3 * len(methods)), layout="constrained")
        axes = figure.subplots()
        for number, entry in enumerate(entries):
            found = score(entry)
            if found.value is None:
                continue
            place = budgets.index(entry.budget)
            y = methods.index(entry.method) + 0.22 * (place - (len(budgets) - 1) / 2)
            x, error = factor * found.value, factor * (found.se or 0.0)
            marker, _, series = shapes[place]
            colour, gid = series_colour(series), f"point-{number}"
            axes.plot([x - error, x + error], [y, y], color=colour, linewidth=1.0, alpha=0.6, zorder=3)
            axes.plot([x], [y], linestyle="", marker=marker, color=colour, markersize=5.0, zorder=4, gid=gid)
            spread = f" ± {error:.3g}" if error else ""
            method = f"{method_label(entry.method)}, {budget_label(entry.budget.ratios)}"
            said[gid] = f"{method}\n{label}: {x:.3g}{spread}"
        axes.set_yticks(np.arange(len(methods)), [method_label(method) for method in methods])
        axes.set_ylim(len(methods) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        if factor == 1.0:
            axes.set_xlim(left=0.0)
    file = f"ablation-{name}"
    legend = tuple(
        LegendEntry(budget_label(budget.ratios), series, glyph)
        for budget, (_, glyph, series) in zip(budgets, shapes, strict=True)
    )
    return Drawing(file, title, to_svg(figure, file, f"{title}, {label}, by method and budget", said), legend)
