"""Regions, clusters, budget and calibration images without fine-tuning: fidelity against what was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, ScalarFormatter

from hscc.pipeline.names import method_label
from hscc.pipeline.report.html.sections.section import Absent, Column, Line, Section, Table, figure, with_error, words
from hscc.pipeline.report.html.svg import INK, STYLE, Drawing, LegendEntry, series_colour, to_svg
from hscc.pipeline.report.terminal import regions_label, structure_label
from hscc.pipeline.statistics.results import batches
from hscc.pipeline.statistics.structure_grid import FIXED

WIDTH, HEIGHT = 3.9, 2.9  # inches of 72 units
_STYLES = (("o", "●", 1), ("s", "■", 3), ("^", "▲", 2), ("D", "◆", 4), ("v", "▼", 5), ("P", "✚", 6))
_SEARCHED = (("X", "✖", 0), ("p", "⬟", 7), ("h", "⬢", 6))  # structure chosen layer by layer: the accent first

Row = dict[str, Any]


def tradeoff_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Draw the grid of the trade-off.

    Parameters
    ----------
    rows : sequence of dict
        Of ``tradeoff.json``.

    Returns
    -------
    list of Drawing
        KL against each speed-up that was measured (against MACs where none was) with the front marked; KL by clusters,
        a panel a budget; and, where there is more than one, KL by calibration images.
    """
    full = max(row["images"] for row in rows)
    grid = [row for row in rows if row["images"] == full]
    timed = [batch for batch in timed_batches(rows) if all(row[f"speedup_b{batch}"] is not None for row in grid)]
    drawings = [
        _front(grid, f"speedup_b{batch}", f"on_front_b{batch}", f"times faster, batch {batch}") for batch in timed[:2]
    ] or [_front(grid, "macs_ratio", "on_front", "times fewer MACs")]
    drawings += [_by_clusters(grid, budget) for budget in sorted({row["budget"] for row in grid})]
    if len({row["images"] for row in rows}) > 1:
        drawings.append(_by_images(rows))
    return drawings


def _legend(rows: Sequence[Row]) -> tuple[LegendEntry, ...]:
    return tuple(LegendEntry(_regions(group), series, glyph) for group, (_, glyph, series) in _styles(rows).items())


def timed_batches(rows: Sequence[Row]) -> list[int]:
    """Batch sizes that were timed, ascending."""
    return batches(rows, "speedup_b")


def _group(row: Row) -> int | str:
    """What a row's mark stands for: a number of regions a side, or a method."""
    regions: int | str = row["regions"] if row["method"] == FIXED else row["method"]
    return regions


def _regions(group: int | str) -> str:
    if isinstance(group, str):
        return f"{method_label(group)}, chosen layer by layer"
    return regions_label(group)


def _order(value: int | str) -> tuple[bool, int]:
    """Numbers ascending, then words in their own order."""
    return (True, 0) if isinstance(value, str) else (False, value)


def _styles(rows: Sequence[Row]) -> dict[int | str, tuple[str, str, int]]:
    groups = sorted(dict.fromkeys(_group(row) for row in rows), key=_order)
    numbers = [group for group in groups if not isinstance(group, str)]
    chosen = [group for group in groups if isinstance(group, str)]
    styles: dict[int | str, tuple[str, str, int]] = {}
    styles |= {group: _STYLES[place % len(_STYLES)] for place, group in enumerate(numbers)}
    styles |= {group: _SEARCHED[place % len(_SEARCHED)] for place, group in enumerate(chosen)}
    return styles


def _front(rows: Sequence[Row], column: str, mark: str, label: str) -> Drawing:
    styles = _styles(rows)
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        best = sorted((row for row in rows if row.get(mark)), key=lambda row: float(row[column]))
        xs, ys = [row[column] for row in best], [row["val_kl"] for row in best]
        axes.plot(xs, ys, color=INK, linewidth=0.9, linestyle=(0, (3, 3)))
        for number, row in enumerate(sorted(rows, key=lambda row: float(row[column]))):
            marker, _, series = styles[_group(row)]
            edge = {"markeredgecolor": INK, "markersize": 7.0} if row.get(mark) else {"markersize": 5.0}
            gid = f"point-{number}"
            axes.plot([row[column]], [row["val_kl"]], marker=marker, color=series_colour(series), gid=gid, **edge)
            said[gid] = f"{_words(row)}\n{row[column]:.2f} {label}{'; on the front' if row.get(mark) else ''}"
        axes.set_xlabel(label)
    name = f"tradeoff-{column.replace('_', '-')}"
    svg = to_svg(figure, name, f"KL to the dense network against {label}, without fine-tuning", said)
    return Drawing(name, f"What structure buys, {label.split(', ')[-1]}", svg, _legend(rows))


def _by_clusters(rows: Sequence[Row], budget: float) -> Drawing:
    rows = [row for row in rows if row["budget"] == budget]
    places = sorted({row["clusters"] for row in rows}, key=_order)
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        for group, (marker, _, series) in _styles(rows).items():
            line = sorted((row for row in rows if _group(row) == group), key=lambda row: _order(row["clusters"]))
            xs = [places.index(row["clusters"]) for row in line]
            colour = series_colour(series)
            axes.plot(xs, [row["val_kl"] for row in line], color=colour, linewidth=1.1)
            for x, row in zip(xs, line, strict=True):
                gid = f"point-{len(said)}"
                axes.plot([x], [row["val_kl"]], marker=marker, color=colour, markersize=5.0, gid=gid)
                said[gid] = _words(row)
        axes.set_xticks(range(len(places)), ["chosen" if isinstance(place, str) else str(place) for place in places])
        axes.set_xlabel("clusters of channels a region")
    name = f"tradeoff-clusters-{budget:g}x".replace(".", "-")
    svg = to_svg(figure, name, f"KL to the dense network by clusters a region, at {budget:g}× fewer MACs", said)
    return Drawing(name, f"Clusters a region, {budget:g}×", svg, _legend(rows))


def _by_images(rows: Sequence[Row]) -> Drawing:
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(row["images"])):
        lines.setdefault((_group(row), row["clusters"], row["budget"]), []).append(row)
    styles = _styles(rows)
    said: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        figure, axes = _canvas()
        for line in lines.values():
            if len(line) < 2:
                continue
            marker, _, series = styles[_group(line[0])]
            colour = series_colour(series)
            axes.plot([row["images"] for row in line], [row["val_kl"] for row in line], color=colour, linewidth=1.0)
            for row in line:
                gid = f"point-{len(said)}"
                axes.plot([row["images"]], [row["val_kl"]], marker=marker, color=colour, markersize=4.5, gid=gid)
                said[gid] = f"{_words(row)}\n{row['images']} calibration images"
        axes.set_xlabel("calibration images")
    svg = to_svg(figure, "tradeoff-images", "KL to the dense network by calibration images", said)
    return Drawing("tradeoff-images", "Calibration images", svg, _legend(rows))


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter("")
    axes.set_ylabel("KL to dense, nats")
    return figure, axes


def _words(row: Row) -> str:
    return (
        f"{structure_label(row)}, {row['budget']:g}×\nKL {row['val_kl']:.3f}{_error(row, 'val_kl', 3, 1.0)}\n"
        f"validation accuracy {100 * row['val_accuracy']:.1f}{_error(row, 'val_accuracy', 1, 100.0)} %"
    )


def _error(row: Row, name: str, digits: int, factor: float) -> str:
    error = row.get(f"{name}_se")
    return "" if error is None else f" ± {factor * error:.{digits}f}"


HEADING = "Regions, clusters, budget: the trade-off"


def tradeoff_section(tradeoff: Mapping[str, Any] | None) -> Section | Absent:
    """Lay out the trade-off.

    Parameters
    ----------
    tradeoff : mapping or None
        Content of ``tradeoff.json``.

    Returns
    -------
    Section or Absent
        Absent where the grid was not run.
    """
    if tradeoff is None:
        return Absent(HEADING, "reports/tradeoff.json is not there (dvc repro tradeoff).")
    if not tradeoff["rows"]:
        return Absent(HEADING, "the grid was not run (tradeoff.enabled in params.yaml).")
    rows = tradeoff["rows"]
    drawings = tradeoff_drawings(rows)
    content = {
        "claims": tradeoff.get("claims") or (),
        "images": tradeoff.get("images"),
        "drawings": drawings,
        "legend": drawings[0].legend,
        "table": _table(rows),
    }
    return Section("tradeoff", HEADING, content, tuple(drawings))


def _table(rows: list[dict[str, Any]]) -> Table:
    batches = timed_batches(rows)
    columns = (
        Column("calibration images"),
        Column("fewer MACs"),
        Column("fewer params"),
        Column("predicted loss"),
        Column("KL to dense, nats"),
        Column("accuracy, %"),
        *(Column(f"speed-up, batch {batch}") for batch in batches),
        Column("on a front"),
    )
    return Table(
        "Every setting: validation images, no fine-tuning, ± one bootstrap standard error",
        "setting",
        columns,
        tuple(
            Line(
                f"{structure_label(row)}, {row['budget']:g}×",
                (
                    figure(row.get("images"), 0),
                    figure(row.get("macs_ratio"), 2, "×"),
                    figure(row.get("params_ratio"), 2, "×"),
                    figure(row.get("predicted_loss"), 3),
                    with_error(row, "val_kl"),
                    with_error(row, "val_accuracy", 1, 100.0),
                    *(figure(row.get(f"speedup_b{batch}"), 2, "×") for batch in batches),
                    words(_fronts(row, batches)),
                ),
            )
            for row in rows
        ),
    )


def _fronts(row: dict[str, Any], batches: list[int]) -> str:
    found = ["MACs"] if row.get("on_front") else []
    found += [f"batch {batch}" for batch in batches if row.get(f"on_front_b{batch}")]
    return ", ".join(found) or "–"
