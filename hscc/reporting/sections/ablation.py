"""HSCC without one of its ideas: one figure, one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hscc.evaluation.names import method_label
from hscc.reporting.figures.ablation import ablation_drawings
from hscc.reporting.sections.section import Absent, Section
from hscc.reporting.tables import Column, Line, Table, chance, difference, figure, with_error, words

HEADING = "What each idea is worth"
_COLUMNS = (
    Column("lacks"),
    Column("held against"),
    Column("KL before, nats"),
    Column("KL after, nats"),
    Column("difference of KL"),
    Column("accuracy, %"),
    Column("difference, points"),
    Column("p, Holm"),
)


def ablation_section(document: Mapping[str, Any]) -> Section | Absent:
    """Lay out the ablation.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.

    Returns
    -------
    Section or Absent
        Absent where no control was run.
    """
    entries: Sequence[dict[str, Any]] = document.get("ablation") or ()
    if not entries:
        return Absent(HEADING, "no control was run (compress.controls in params.yaml).")
    table = Table(
        "Each control minus the method that has what it lacks, on the same images, with 95 % intervals",
        "network",
        _COLUMNS,
        tuple(_line(entry) for entry in entries),
    )
    drawings = ablation_drawings(entries)
    content = {"table": table, "drawings": drawings, "legend": drawings[0].legend if drawings else ()}
    return Section("ablation", HEADING, content, tuple(drawings))


def _line(entry: Mapping[str, Any]) -> Line:
    against = entry.get("against")
    return Line(
        f"{method_label(entry['method'])}, {entry['budget']:g}×",
        (
            words(entry.get("lacks") or "–"),
            words(method_label(against) if against else "–"),
            figure(entry.get("val_kl_before"), 3),
            with_error(entry, "kl_to_baseline"),
            difference(entry, "kl_difference", 3, 1.0),
            with_error(entry, "accuracy", 1, 100.0),
            difference(entry, "accuracy_difference"),
            chance(entry.get("mcnemar_p_holm")),
        ),
    )
