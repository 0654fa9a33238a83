"""HSCC against each other method of the comparison at the same budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.pipeline.names import method_label
from hscc.pipeline.report.html.sections.section import (
    Absent,
    Cell,
    Column,
    Line,
    Section,
    Table,
    chance,
    difference,
    words,
)
from hscc.pipeline.report.html.series import role
from hscc.pipeline.statistics.results import covers_zero
from hscc.pipeline.statistics.rows import CONTROL

HEADING = "HSCC against each other method"
_COLUMNS = (
    Column("accuracy, points"),
    Column("McNemar p", "not corrected"),
    Column("KL to dense, nats"),
    Column("beyond noise"),
)


def rivals_section(document: Mapping[str, Any]) -> Section | Absent:
    """Lay out the paired comparisons with the rivals; controls are in the ablation.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.

    Returns
    -------
    Section or Absent
        Absent where HSCC met no rival.
    """
    controls = {row["method"] for row in document["rows"] if role(row) == CONTROL}
    pairs = [pair for pair in document["comparisons"] if pair["against"] not in controls]
    if not pairs:
        return Absent(HEADING, "HSCC and another method were not run at the same budget.")
    several_seeds = len({pair["seed"] for pair in pairs}) > 1
    table = Table(
        "HSCC minus the other method on the same images, with 95 % intervals",
        "against",
        _COLUMNS,
        tuple(_line(pair, f"seed {pair['seed']}" if several_seeds else "") for pair in pairs),
    )
    return Section("rivals", HEADING, {"table": table})


def _line(pair: Mapping[str, Any], aside: str) -> Line:
    return Line(
        f"{method_label(pair['against'])}, {pair['budget']:g}×",
        (
            difference(pair, "accuracy_difference"),
            chance(pair["mcnemar_p"]),
            difference(pair, "kl_difference", 3, 1.0),
            _beyond_noise(pair),
        ),
        aside=aside,
    )


def _beyond_noise(pair: Mapping[str, Any]) -> Cell:
    found = [] if covers_zero(pair) else [f"accuracy {_better(pair['accuracy_difference'] > 0)}"]
    found += [] if covers_zero(pair, "kl") else [f"KL {_better(pair['kl_difference'] < 0)}"]
    return words(", ".join(found) or "–")


def _better(is_better: bool) -> str:
    return "better" if is_better else "worse"
