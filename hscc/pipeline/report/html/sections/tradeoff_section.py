"""Regions, clusters, budget and calibration images without fine-tuning: fidelity against what was saved."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

from hscc.pipeline.names import method_label
from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.html.svg import INK, STYLE, Drawing, LegendEntry, series_colour, to_svg
from hscc.pipeline.report.table import with_error
from hscc.pipeline.report.tables.structure_tables import regions_label, settings_table, structure_label
from hscc.pipeline.report.wording import score
from hscc.pipeline.statistics.structure_schema import FIXED, Choice, StructureGrid, StructureRow

HEADING = "Regions, clusters, budget: the trade-off"
WIDTH, HEIGHT = 3.9, 2.9  # inches of 72 units
_STYLES = (("o", "●", 1), ("s", "■", 3), ("^", "▲", 2), ("D", "◆", 4), ("v", "▼", 5), ("P", "✚", 6))
_SEARCHED = (("X", "✖", 0), ("p", "⬟", 7), ("h", "⬢", 6))  # structure chosen layer by layer: the accent first
_BATCHES = 2  # batch sizes to draw

Rows = Sequence[StructureRow]
Group = int | str
"""What a row's mark stands for: a number of regions per side, or a method."""


def tradeoff_section(grid: StructureGrid | None) -> Section | Absent:
    """Lay out the trade-off; absent where the grid was not run."""
    if grid is None:
        return Absent(HEADING, "reports/tradeoff.json is not there (dvc repro tradeoff).")
    if not grid.rows:
        return Absent(HEADING, "the grid was not run (tradeoff.enabled in params.yaml).")
    drawings = tradeoff_drawings(grid)
    content = {"grid": grid, "drawings": drawings, "legend": drawings[0].legend, "table": settings_table(grid)}
    return Section("tradeoff", HEADING, content, tuple(drawings))


def tradeoff_drawings(grid: StructureGrid) -> list[Drawing]:
    """Draw the grid.

    Returns
    -------
    list of Drawing
        KL against each speed-up (against MACs where none was measured) with the front marked; KL by clusters, one
        panel per budget; and, where there is more than one, KL by calibration images.
    """
    rows = [row for row in grid.rows if row.images == grid.calibration]
    drawings = [_by_speedup(rows, batch) for batch in grid.batches[:_BATCHES]]
    if not drawings:
        points = [(row.macs_ratio, row.on_front, row) for row in rows]
        drawings = [_front(points, "tradeoff-macs-ratio", "times fewer MACs")]
    drawings += [_by_clusters(rows, budget) for budget in sorted({row.budget_macs for row in rows})]
    if len({row.images for row in grid.rows}) > 1:
        drawings.append(_by_images(grid.rows))
    return drawings


def _group(row: StructureRow) -> Group:
    return row.regions if row.method == FIXED else row.method


def _legend(rows: Rows) -> tuple[LegendEntry, ...]:
    def label(group: Group) -> str:
        return f"{method_label(group)}, chosen layer by layer" if isinstance(group, str) else regions_label(group)

    return tuple(LegendEntry(label(group), series, glyph) for group, (_, glyph, series) in _styles(rows).items())


def _order(value: Choice | Group) -> tuple[bool, int]:
    """Numbers ascending, then words in their own order."""
    return (True, 0) if isinstance(value, str) else (False, value)


def _styles(rows: Rows) -> dict[Group, tuple[str, str, int]]:
    groups = sorted(dict.fromkeys(_group(row) for row in rows), key=_order)
    fixed = [group for group in groups if not isinstance(group, str)]
    styles: dict[Group, tuple[str, str, int]] = {}
    for place, group in enumerate(groups):
        searched = isinstance(group, str)
        known, number = (_SEARCHED, place - len(fixed)) if searched else (_STYLES, place)
        styles[group] = known[number % len(known)]
    return styles


def _by_speedup(rows: Rows, batch: int) -> Drawing:
    timed = [(row.timing(batch), row) for row in rows]
    points = [(timing.speedup, timing.on_front, row) for timing, row in timed]
    return _front(points, f"tradeoff-speedup-b{batch}", f"times faster, batch {batch}")


def _front(points: Sequence[tuple[float, bool, StructureRow]], name: str, label: str) -> Drawing:
    """Draw KL against a gain; each point has the gain, whether it is on the front, and its row."""
    rows = [row for _, _, row in points]
    styles = _styles(rows)
    found = sorted(points, key=lambda point: point[0])
    best = [(x, _kl(row)) for x, on_front, row in found if on_front]
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        axes.plot([x for x, _ in best], [y for _, y in best], color=INK, linewidth=0.9, linestyle=(0, (3, 3)))
        for number, (x, on_front, row) in enumerate(found):
            marker, _, series = styles[_group(row)]
            edge = {"markeredgecolor": INK, "markersize": 7.0} if on_front else {"markersize": 5.0}
            gid = f"point-{number}"
            axes.plot([x], [_kl(row)], marker=marker, color=series_colour(series), gid=gid, **edge)
            said[gid] = f"{_words(row)}\n{x:.2f} {label}{'; on the front' if on_front else ''}"
        axes.set_xlabel(label)
    svg = to_svg(figure, name, f"KL to the dense network against {label}, without fine-tuning", said)
    return Drawing(name, f"Structures, {label.split(', ')[-1]}", svg, _legend(rows))


def _by_clusters(rows: Rows, budget: float) -> Drawing:
    rows = [row for row in rows if row.budget_macs == budget]
    places = sorted({row.clusters for row in rows}, key=_order)
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        for group, (marker, _, series) in _styles(rows).items():
            line = sorted((row for row in rows if _group(row) == group), key=lambda row: _order(row.clusters))
            points = [(float(places.index(row.clusters)), row, _words(row)) for row in line]
            _line(axes, points, marker, series_colour(series), said)
        axes.set_xticks(range(len(places)), ["chosen" if isinstance(place, str) else str(place) for place in places])
        axes.set_xlabel("clusters of channels per region")
    name = f"tradeoff-clusters-{budget:g}x".replace(".", "-")
    svg = to_svg(figure, name, f"KL to the dense network by clusters per region, at {budget:g}× fewer MACs", said)
    return Drawing(name, f"Clusters per region, {budget:g}× fewer MACs", svg, _legend(rows))


def _by_images(rows: Rows) -> Drawing:
    lines: dict[tuple[Group, Choice, float], list[StructureRow]] = {}
    for row in sorted(rows, key=lambda row: row.images):
        lines.setdefault((_group(row), row.clusters, row.budget_macs), []).append(row)
    styles = _styles(rows)
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        for line in lines.values():
            if len(line) > 1:
                marker, _, series = styles[_group(line[0])]
                points = [(float(row.images), row, f"{_words(row)}\n{row.images} calibration images") for row in line]
                _line(axes, points, marker, series_colour(series), said)
        axes.set_xlabel("calibration images")
    svg = to_svg(figure, "tradeoff-images", "KL to the dense network by calibration images", said)
    return Drawing("tradeoff-images", "Calibration images", svg, _legend(rows))


def _line(
    axes: Axes, points: Sequence[tuple[float, StructureRow, str]], marker: str, colour: str, said: dict[str, str]
) -> None:
    """Draw a line of points, each with what it says when it is pointed at."""
    axes.plot([x for x, _, _ in points], [_kl(row) for _, row, _ in points], color=colour, linewidth=1.1)
    for x, row, text in points:
        gid = f"point-{len(said)}"
        axes.plot([x], [_kl(row)], marker=marker, color=colour, markersize=5.0, gid=gid)
        said[gid] = text


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter("")
    axes.set_ylabel("KL to dense, nats")
    return figure, axes


def _kl(row: StructureRow) -> float:
    return float("nan") if row.val_kl.value is None else row.val_kl.value


def _words(row: StructureRow) -> str:
    return (
        f"{structure_label(row)}, {row.budget_macs:g}× fewer MACs\nKL {with_error(row.val_kl)}\n"
        f"validation score {score(row.val_score)} %"
    )
