"""The same graph under other split protocols, side by side: how much of an accuracy is leakage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.names import network_label
from hscc.pipeline.report.html.sections.section import (
    NOTHING,
    Absent,
    Cell,
    Column,
    Line,
    Section,
    Table,
    difference,
    signed_figure,
    with_error,
)
from hscc.pipeline.statistics.robustness import CLEAN, LEAKY, compare_protocols

HEADING = "How much is owed to the split"
MEANINGS = {
    "grouped": "random split in which near-copies of one image stay together: no test image has a twin in training",
    "pooled": "random split that ignores near-copies, as papers on this data set do: it flatters",
    "official": "the data set's own Testing folder, less the files that are also in Training",
}

Entry = Mapping[str, Any]


def protocols_section(documents: Mapping[str, Mapping[str, Any]]) -> Section | Absent:
    """Lay the protocols out side by side.

    Parameters
    ----------
    documents : mapping of str to mapping
        Of `hscc.pipeline.statistics.robustness.read_protocols`, the report's own protocol first.

    Returns
    -------
    Section or Absent
        Absent where there is only one protocol.
    """
    entries = compare_protocols(documents)
    dense = entries[0]["protocols"]
    if len(dense) < 2:
        return Absent(HEADING, "only one split protocol was run.")
    columns = [Column(f"{name}: {what}") for name in dense for what in ("accuracy, %", "to dense, points [95\u00a0%]")]
    has_leakage = {LEAKY, CLEAN} <= set(dense)
    columns += [Column(f"{LEAKY} minus {CLEAN}, points")] if has_leakage else []
    table = Table(
        "The same networks under each protocol, ± one standard error",
        "network",
        tuple(columns),
        tuple(_line(entry, list(dense), has_leakage) for entry in entries),
    )
    content = {
        "table": table,
        "meanings": {name: MEANINGS.get(name, "") for name in dense},
        "sizes": {name: found["n_test"] for name, found in dense.items()},
        "leakage": entries[0]["leakage"],
        "leakage_se": entries[0]["leakage_se"],
    }
    return Section("protocols", HEADING, content)


def _line(entry: Entry, names: list[str], has_leakage: bool) -> Line:
    is_dense = entry["method"] == DENSE
    cells = [cell for name in names for cell in _pair(entry["protocols"].get(name), is_dense)]
    if has_leakage:
        error = entry["leakage_se"]
        aside = "" if error is None else f"± {100 * error:.1f}"
        cells.append(signed_figure(entry["leakage"], 1, 100.0, aside))
    return Line(network_label(entry), tuple(cells))


def _pair(found: Entry | None, is_dense: bool) -> tuple[Cell, Cell]:
    if found is None:
        return NOTHING, NOTHING
    return with_error(found, "accuracy", 1, 100.0), NOTHING if is_dense else difference(found, "accuracy_difference")
