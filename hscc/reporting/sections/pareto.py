"""Accuracy kept against work saved, in MACs and on the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.evaluation.networks import DENSE
from hscc.evaluation.results import Row, batches, float_rows
from hscc.reporting.figures.pareto import pareto_drawing
from hscc.reporting.folding import fold
from hscc.reporting.sections.section import Section

_CLOCKS = 2  # batch sizes to draw


def pareto_section(document: Mapping[str, Any]) -> Section:
    """Draw what each network keeps against what it saves.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.

    Returns
    -------
    Section
        A figure of MACs, and one of each of the first batch sizes that were timed.
    """
    own = [row for row in float_rows(document["rows"]) if row["protocol"] == document["protocol"]]
    rows = fold(own, document.get("seeds") or ())
    drawings = [pareto_drawing(rows, "macs_ratio", "times fewer MACs", "What the arithmetic saves")]
    timed = [batch for batch in batches(own) if _is_timed(rows, batch)][:_CLOCKS]
    for batch in timed:
        label = f"times faster, {batch} image{'s' if batch > 1 else ''} at a time"
        title = f"What the clock says, batch {batch}"
        drawings.append(pareto_drawing(rows, f"speedup_b{batch}", label, title))
    content = {"drawings": drawings, "legend": drawings[0].legend}
    return Section("pareto", "Accuracy kept against work saved", content, tuple(drawings))


def _is_timed(rows: list[Row], batch: int) -> bool:
    return any(row.get(f"speedup_b{batch}") is not None for row in rows if row["method"] != DENSE)
