"""The grid of structures without fine-tuning, and what it says about the paper's claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.evaluation.tradeoff_table import structure_label
from hscc.reporting.figures.tradeoff import timed_batches, tradeoff_drawings
from hscc.reporting.sections.section import Absent, Section
from hscc.reporting.tables import Column, Line, Table, figure, with_error, words

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
