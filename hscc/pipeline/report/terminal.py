"""The results, the structure grid and the bench on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from hscc.pipeline.benchmark.measurement import Bench, BenchRow
from hscc.pipeline.names import method_label, network_label
from hscc.pipeline.statistics.schema import AskedBudget, Estimate, NetworkRow, Results, read_results
from hscc.pipeline.statistics.structure_schema import FIXED, StructureGrid, StructureRow

_SHOWN = 2  # batch sizes; the others are in results.csv


def render(results_json: Path) -> Table:
    """Lay the results out as a table.

    Parameters
    ----------
    results_json : Path
        ``reports/results.json``.

    Returns
    -------
    rich.table.Table
        One row per network: the baseline and the candidates, below the baseline and the best of each budget their int8
        variants, then the baselines of the other protocols.

    Raises
    ------
    ArtifactError
        If the file is missing or is not a results file.
    """
    results = read_results(results_json)
    own = [results.dense(), *results.candidates()]
    others = [row for row in results.rows if row.is_dense and row.protocol != results.protocol]
    with_int8 = _best_of_budgets(results)
    subject = "PHANTOM images, not patients" if results.phantom else "Test split"
    table = Table(
        title=f"{subject}, {results.protocol} protocol, {own[0].n_test} test images (± one standard error)",
        title_justify="left",
        caption=f"data {results.data_hash[:12]}, commit {results.git_commit[:12]}; MACs, params, speed: times fewer or "
        "faster than dense; eff.: speed / MACs",
        caption_justify="left",
    )
    table.add_column("network", no_wrap=True)
    timed = results.batches()[:_SHOWN]
    for column in ("MACs", "params", "MB", "accuracy %", "KL", *(f"speed b{batch} (eff.)" for batch in timed)):
        table.add_column(column, justify="right", no_wrap=True)
    for row in own:
        int8 = results.int8_of(row) if row in with_int8 else None
        table.add_row(network_label(row), *_figures(row, timed), end_section=row is own[-1] and not int8)
        if int8:
            table.add_row("└ in int8", *_figures(int8, timed), end_section=row is own[-1])
    for row in others:
        table.add_row(f"Dense, {row.protocol} protocol", *_figures(row, timed))
    return table


def _best_of_budgets(results: Results) -> list[NetworkRow]:
    """The baseline, and of each budget the network that validation finds nearest to it."""
    best: dict[AskedBudget, NetworkRow] = {}
    for row in sorted(results.candidates(), key=lambda row: (row.validation.kl, row.name)):
        best.setdefault(row.budget, row)
    return [results.dense(), *best.values()]


def _figures(row: NetworkRow, timed: Sequence[int]) -> list[str]:
    return [
        f"{row.macs_ratio:.2f}×",
        f"{row.params_ratio:.2f}×",
        f"{row.size_bytes / 1e6:.1f}",
        _percent(row.accuracy),
        "–" if row.kl.value is None else f"{row.kl.value:.3f}",
        *(_speed(row, batch) for batch in timed),
    ]


def _speed(row: NetworkRow, batch: int) -> str:
    timing = row.timing(batch)
    return "–" if timing is None else f"{timing.speedup:.2f}× ({timing.efficiency:.2f})"


def render_tradeoff(grid: StructureGrid) -> Table:
    """Lay the structure grid out, one row per setting.

    Returns
    -------
    rich.table.Table
        Sections by budget and calibration; a star marks a figure that is on a Pareto front with the divergence.
    """
    dense = f"dense accuracy {_percent(grid.dense.val_accuracy)}; " if grid.dense else ""
    table = Table(
        title=f"Trade-off, {grid.protocol} protocol, {grid.images} validation images, no fine-tuning "
        "(± one standard error)",
        title_justify="left",
        caption=f"{dense}MACs, params, speed: times fewer or faster than dense; "
        "*: no other setting has a smaller KL at as much of it",
        caption_justify="left",
    )
    for column in ("images", "structure", "MACs", "params", "loss", "KL", "accuracy %"):
        table.add_column(column, justify="left" if column == "structure" else "right", no_wrap=True)
    for batch in grid.batches:
        table.add_column(f"speed b{batch}", justify="right", no_wrap=True)
    before: tuple[int, float] | None = None
    for row in grid.rows:
        section = (row.images, row.budget_macs)
        if before not in (None, section):
            table.add_section()
        before = section
        table.add_row(*_grid_figures(row))
    return table


def structure_label(row: StructureRow) -> str:
    """Name of a row's structure in running text, such as ``2×2 regions, 4 clusters`` or ``HSCC``."""
    if row.method != FIXED:
        return method_label(row.method)
    clusters = "cluster" if row.clusters == 1 else "clusters"
    return f"{regions_label(int(row.regions))}, {row.clusters} {clusters}"


def regions_label(side: int) -> str:
    """Name of a partition of a feature map with so many regions a side, such as ``2×2 regions``."""
    return "1 region" if side == 1 else f"{side}×{side} regions"


def _grid_figures(row: StructureRow) -> list[str]:
    return [
        str(row.images),
        structure_label(row),
        f"{row.macs_ratio:.2f}x{_star(row.on_front)}",
        f"{row.params_ratio:.2f}x",
        f"{row.predicted_loss:.3f}",
        f"{row.val_kl.value:.3f} ± {row.val_kl.se:.3f}",
        _percent(row.val_accuracy),
        *(f"{timing.speedup:.2f}x{_star(timing.on_front)}" for timing in row.timings),
    ]


def _percent(score: Estimate) -> str:
    return f"{100 * (score.value or 0.0):.1f} ± {100 * (score.se or 0.0):.1f}"


def _star(marked: bool) -> str:
    return "*" if marked else " "


_LABELS = {"onnxruntime": "ONNX Runtime", "torch": "torch, eager"}


def render_rows(bench: Bench, runtime: str) -> Table:
    """Lay out the figures of one runtime, one row per network.

    Returns
    -------
    rich.table.Table
        File size; milliseconds and speed-up with its standard error for each batch size; peak memory at the largest.
    """
    table = Table(
        title=f"{_LABELS.get(runtime, runtime)}, {bench.threads} threads, {bench.machine.processor}",
        title_justify="left",
        caption=f"×: times faster than {bench.reference}, run in turn with it, ± one standard error; "
        f"peak: running, at batch {bench.batches[-1]}",
        caption_justify="left",
    )
    table.add_column("network", no_wrap=True)
    for column in ("file MB", *(f"{unit} b{batch}" for batch in bench.batches for unit in ("ms", "×")), "peak MB"):
        table.add_column(column, justify="right")
    found = [row for row in bench.rows if row.runtime == runtime]
    for name in dict.fromkeys(row.network for row in found):
        table.add_row(name, *_times([row for row in found if row.network == name]))
    return table


def _times(rows: Sequence[BenchRow]) -> list[str]:
    figures = [f"{rows[0].size_bytes / 1e6:.1f}"]
    for row in rows:
        figures += [f"{row.ms:.3g}", f"{row.speedup:.2f} ±{row.speedup_se:.2f}"]
    peak = rows[-1].peak_mb
    return [*figures, "–" if peak is None else f"{peak:.0f}"]
