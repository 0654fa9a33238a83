"""The structures of the trade-off, compressed without fine-tuning."""

from __future__ import annotations

from hscc.pipeline.names import method_label
from hscc.pipeline.report.table import (
    NOTHING,
    Cell,
    Column,
    Line,
    Measure,
    Table,
    cells_of,
    columns_of,
    figure,
    measure,
    with_error,
    words,
)
from hscc.pipeline.score_names import score_label
from hscc.pipeline.statistics.structure_schema import FIXED, StructureGrid, StructureRow


def structure_label(row: StructureRow) -> str:
    """Name of a row's structure, such as ``2×2 regions, 4 clusters`` or ``HSCC``."""
    if row.method != FIXED:
        return method_label(row.method)
    clusters = "cluster" if row.clusters == 1 else "clusters"
    return f"{regions_label(int(row.regions))}, {row.clusters} {clusters}"


def regions_label(side: int) -> str:
    """Name of a partition of a feature map with so many regions per side, such as ``2×2 regions``."""
    return "1 region" if side == 1 else f"{side}×{side} regions"


def settings_table(grid: StructureGrid) -> Table:
    """Tabulate every setting, one row each, in groups of one budget and calibration size."""
    measures: list[Measure[StructureRow]] = [
        measure("asked: MACs", lambda row: Cell(f"{row.budget_macs:g}×", value=row.budget_macs)),
        measure("calibration images", lambda row: figure(row.images, 0)),
        measure("fewer MACs", lambda row: figure(row.macs_ratio, 2, "×")),
        measure("fewer params", lambda row: figure(row.params_ratio, 2, "×")),
        measure("predicted loss", lambda row: figure(row.predicted_loss, 3)),
        measure("KL to dense, nats", lambda row: with_error(row.val_kl)),
        measure(f"{score_label(grid.score)}, %", lambda row: with_error(row.val_score, 1, 100.0)),
        *(_speed(batch) for batch in grid.batches),
        measure("on a front", lambda row: words(_fronts(row))),
    ]
    lines = tuple(
        Line(structure_label(row), cells_of(row, measures), f"{row.images} images, {row.budget_macs:g}×")
        for row in grid.rows
    )
    caption = (
        f"Every setting, {grid.protocol} protocol: {grid.images} validation images, no fine-tuning, ± one bootstrap "
        "standard error"
    )
    return Table(caption, "structure", columns_of(measures), lines)


def settings_note(grid: StructureGrid) -> str:
    """Say what the columns of `settings_table` are."""
    dense = f"dense {score_label(grid.score)} {with_error(grid.dense.val_score, 1, 100.0)} %; " if grid.dense else ""
    return f"{dense}on a front: no other setting has a smaller KL at as much of it"


def _speed(batch: int) -> Measure[StructureRow]:
    return measure(f"speed-up, batch {batch}", lambda row: figure(row.timing(batch).speedup, 2, "×"))


def _fronts(row: StructureRow) -> str:
    found = ["MACs"] if row.on_front else []
    return ", ".join([*found, *(f"batch {timing.batch}" for timing in row.timings if timing.on_front)])


def structures_table(grid: StructureGrid) -> Table:
    """Tabulate one row per structure with a group of columns for each budget; smaller calibrations at the end."""
    budgets = sorted({row.budget_macs for row in grid.rows})
    names = ("KL", f"{score_label(grid.score)}, %", f"faster {' / '.join(f'b{batch}' for batch in grid.batches)}")
    found: dict[str, dict[float, tuple[Cell, ...]]] = {}
    for row in grid.rows:
        size = "" if row.images == grid.calibration else f", {row.images} images"
        speeds = " / ".join(f"{row.timing(batch).speedup:.2f}×" for batch in grid.batches)
        cells = (with_error(row.val_kl), with_error(row.val_score, 1, 100.0), Cell(speeds))
        found.setdefault(f"{structure_label(row)}{size}", {})[row.budget_macs] = cells
    empty = (NOTHING,) * len(names)
    lines = tuple(
        Line(head, tuple(cell for budget in budgets for cell in by_budget.get(budget, empty)))
        for head, by_budget in found.items()
    )
    columns = tuple(Column(f"{budget:g}×: {name}") for budget in budgets for name in names)
    return Table("Trade-off", "structure", columns, lines)
