"""The trade-off as a table: a row a structure, columns a budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.documents.grid import Grid
from hscc.evaluation.tradeoff_table import structure_label

NONE = "–"
Cells = tuple[str, ...]


def tradeoff_grid(document: Mapping[str, Any]) -> Grid:
    """Lay out ``tradeoff.json``: divergence, accuracy and speed of every structure at every budget.

    Parameters
    ----------
    document : mapping
        With a row at least.

    Returns
    -------
    Grid
        Structures of a smaller calibration than the full one are at the end, with its size.
    """
    rows, batches = document["rows"], document["batches"]
    budgets = sorted({row["budget"] for row in rows})
    names = ("KL", "accuracy %", f"faster {' / '.join(f'b{batch}' for batch in batches)}")
    header = ("structure", *(f"{budget:g}×: {name}" for budget in budgets for name in names))
    found: dict[str, dict[float, Cells]] = {}
    for row in rows:
        size = "" if row["images"] == document["calibration"] else f", {row['images']} images"
        found.setdefault(f"{structure_label(row)}{size}", {})[row["budget"]] = _cells(row, batches)
    empty = (NONE,) * len(names)
    lines = tuple(
        (structure, *(cell for budget in budgets for cell in cells.get(budget, empty)))
        for structure, cells in found.items()
    )
    return Grid("Trade-off", header, lines)


def _cells(row: Mapping[str, Any], batches: list[int]) -> Cells:
    return (
        f"{row['val_kl']:.3f} ± {row['val_kl_se']:.3f}",
        f"{100 * row['val_accuracy']:.1f} ± {100 * row['val_accuracy_se']:.1f}",
        " / ".join(f"{row[f'speedup_b{batch}']:.2f}×" for batch in batches),
    )
