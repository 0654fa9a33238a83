"""The trade-off on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from hscc.evaluation.names import method_label
from hscc.evaluation.tradeoff import FIXED


def render_tradeoff(document: Mapping[str, Any]) -> Table:
    """Lay the trade-off out, a row a setting.

    Parameters
    ----------
    document : mapping
        Content of ``tradeoff.json``.

    Returns
    -------
    rich.table.Table
        Sections by budget and calibration; a star marks a figure that is on a Pareto front with the divergence.
    """
    batches = document["batches"]
    table = Table(
        title=f"Trade-off, {document['protocol']} protocol, {document['images']} validation images, no fine-tuning "
        "(± one standard error)",
        title_justify="left",
        caption=f"dense accuracy {_percent(document['dense'])}; MACs, params, speed: times fewer or faster than dense; "
        "*: no other setting has a smaller KL at as much of it",
        caption_justify="left",
    )
    for column in ("images", "structure", "MACs", "params", "loss", "KL", "accuracy %"):
        table.add_column(column, justify="left" if column == "structure" else "right", no_wrap=True)
    for batch in batches:
        table.add_column(f"speed b{batch}", justify="right", no_wrap=True)
    before: tuple[int, float] | None = None
    for row in document["rows"]:
        section = (row["images"], row["budget"])
        if before not in (None, section):
            table.add_section()
        before = section
        table.add_row(*_figures(row, batches))
    return table


def structure_label(row: Mapping[str, Any]) -> str:
    """Name of a row's structure in running text, such as ``2×2 regions, 4 clusters`` or ``HSCC``."""
    if row["method"] != FIXED:
        return method_label(row["method"])
    clusters = "cluster" if row["clusters"] == 1 else "clusters"
    return f"{regions_label(row['regions'])}, {row['clusters']} {clusters}"


def regions_label(side: int) -> str:
    """Name of a partition of a feature map with so many regions a side, such as ``2×2 regions``."""
    return "1 region" if side == 1 else f"{side}×{side} regions"


def _figures(row: Mapping[str, Any], batches: list[int]) -> list[str]:
    return [
        str(row["images"]),
        structure_label(row),
        f"{row['macs_ratio']:.2f}x{_star(row['on_front'])}",
        f"{row['params_ratio']:.2f}x",
        f"{row['predicted_loss']:.3f}",
        f"{row['val_kl']:.3f} ± {row['val_kl_se']:.3f}",
        _percent(row),
        *(f"{row[f'speedup_b{batch}']:.2f}x{_star(row[f'on_front_b{batch}'])}" for batch in batches),
    ]


def _percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['val_accuracy']:.1f} ± {100 * row['val_accuracy_se']:.1f}"


def _star(marked: bool) -> str:
    return "*" if marked else " "
