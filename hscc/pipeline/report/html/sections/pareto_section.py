"""The primary score against what was saved: one point per network, the front, the dense network's band."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import offset_copy

from hscc.pipeline.names import network_label
from hscc.pipeline.report.html.section import Section
from hscc.pipeline.report.html.series import Key, Mark, key_of, legend, marks
from hscc.pipeline.report.html.svg import GRID, INK, MUTED, STYLE, Drawing, to_svg
from hscc.pipeline.report.tables.seed_means import mean_over_seeds
from hscc.pipeline.report.wording import points, score
from hscc.pipeline.score_names import score_label, score_title
from hscc.pipeline.statistics.results import pareto_front
from hscc.pipeline.statistics.schema import DENSE, Estimate, NetworkRow, Results

WIDTH, HEIGHT = 3.9, 3.1  # inches of 72 units
DODGE = 3.0  # units between methods that reach the same figure, so that their error bars stay apart
_BATCHES = 2  # batch sizes to draw

Gain = Callable[[NetworkRow], float | None]


def pareto_section(results: Results) -> Section:
    """Draw the primary score against MACs, and against the speed-up at the first batch sizes that were timed."""
    rows = [mean.row for mean in mean_over_seeds([results.dense(), *results.compressed()], results.seeds)]
    drawings = [pareto_drawing(rows, _macs_ratio, "pareto-macs-ratio", "times fewer MACs", "Against MACs")]
    for batch in _timed(rows, results.batches())[:_BATCHES]:
        label = f"times faster, {batch} image{'s' if batch > 1 else ''} at a time"
        name, title = f"pareto-speedup-b{batch}", f"Against measured time, batch {batch}"
        drawings.append(pareto_drawing(rows, _speedup_at(batch), name, label, title))
    content = {"drawings": drawings, "legend": drawings[0].legend}
    return Section("pareto", f"{score_title(results.score)} kept against work saved", content, tuple(drawings))


def pareto_drawing(rows: Sequence[NetworkRow], gain: Gain, name: str, label: str, title: str) -> Drawing:
    """Draw the primary score against a figure of which more is better.

    Parameters
    ----------
    rows : sequence of NetworkRow
        Of one protocol, the dense network among them; those without the figure are left out.
    gain : callable
        The figure of a row; None where it was not measured.
    name, label, title : str
        File name, label of the horizontal axis, caption.

    Returns
    -------
    Drawing
        Error bars are one standard error of the score, the band is the dense network's, and the dashed line joins
        the networks that no other beats on both counts. Every point says its figures when it is pointed at.
    """
    found = sorted(((x, row) for row in rows if (x := gain(row)) is not None), key=lambda pair: pair[0])
    known = marks(row for row in rows if gain(row) is not None)
    said: dict[str, str] = {}
    name_of_score = score_label(rows[0].score)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        axes = figure.subplots()
        _dense_band(axes, next(row.primary for row in rows if row.is_dense))
        _front(axes, found)
        aside = _asides(known)
        for number, (x, row) in enumerate(found):
            gid = f"point-{number}"
            _point(axes, x, row.primary, known[key_of(row)], aside[key_of(row)], gid)
            said[gid] = _words(row, x, label)
        axes.set_xlabel(label)
        axes.set_ylabel(f"test {name_of_score}, %")
        axes.margins(x=0.08, y=0.12)
        axes.set_xlim(left=max(0.0, axes.get_xlim()[0]))
        axes.xaxis.set_major_locator(MaxNLocator(6))
    summary = f"Test {name_of_score} against {label}, {len(found)} networks. The figures are in the results table."
    return Drawing(name, title, to_svg(figure, name, summary, said), legend(known))


def _macs_ratio(row: NetworkRow) -> float:
    return row.macs_ratio


def _speedup_at(batch: int) -> Gain:
    def speedup(row: NetworkRow) -> float | None:
        timing = row.timing(batch)
        return None if timing is None else timing.speedup

    return speedup


def _timed(rows: Sequence[NetworkRow], batches: Sequence[int]) -> list[int]:
    return [batch for batch in batches if any(row.timing(batch) for row in rows if not row.is_dense)]


def _percent(found: Estimate) -> tuple[float, float]:
    return 100 * (found.value or 0.0), 100 * (found.se or 0.0)


def _dense_band(axes: Axes, found: Estimate) -> None:
    middle, error = _percent(found)
    axes.axhspan(middle - error, middle + error, color=GRID, alpha=0.5, linewidth=0)
    axes.axhline(middle, color=MUTED, linewidth=0.8)


def _front(axes: Axes, found: Sequence[tuple[float, NetworkRow]]) -> None:
    xs, ys = [x for x, _ in found], [_percent(row.primary)[0] for _, row in found]
    best = [pair for pair, on_front in zip(zip(xs, ys, strict=True), pareto_front(xs, ys), strict=True) if on_front]
    axes.plot(*zip(*best, strict=True), color=INK, linewidth=0.9, linestyle=(0, (3, 3)), zorder=2)


def _asides(known: dict[Key, Mark]) -> dict[Key, float]:
    """How far each method is drawn from its place, in units; only those that meet at the same budgets step aside."""
    meeting = [key for key, mark in known.items() if key[0] != DENSE and mark.fill == "full" and not mark.is_control]
    return dict.fromkeys(known, 0.0) | {
        key: (place - (len(meeting) - 1) / 2) * DODGE for place, key in enumerate(meeting)
    }


def _point(axes: Axes, x: float, found: Estimate, mark: Mark, aside: float, gid: str) -> None:
    y, error = _percent(found)
    place = offset_copy(axes.transData, axes.get_figure(root=True), x=aside, units="points")
    style = mark.style()
    if mark.is_control:
        error = 0.0  # the bars are in the ablation
    axes.plot([x, x], [y - error, y + error], color=style["color"], linewidth=0.8, alpha=0.6, zorder=3, transform=place)
    axes.plot([x], [y], linestyle="", zorder=4, transform=place, gid=gid, **style)
    # What is drawn with an offset does not move the limits by itself.
    axes.update_datalim([(x, y - error), (x, y + error)])
    axes.autoscale_view()


def _words(row: NetworkRow, x: float, label: str) -> str:
    lines = [network_label(row), f"{score_label(row.score)} {score(row.primary)} %"]
    if row.against_dense:
        lines.append(f"{points(row.against_dense.primary)} points to dense")
    lines.append(f"{x:.2f} {label}")
    if x != row.macs_ratio:
        lines.append(f"{row.macs_ratio:.1f} times fewer MACs")
    if row.against_dense and row.kl.value is not None:
        lines.append(f"KL {row.kl.value:.3f}")
    return "\n".join(lines)
