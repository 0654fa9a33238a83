"""HSCC against each other method of the comparison at the same budget."""

from __future__ import annotations

from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.tables.comparison_tables import comparison_table
from hscc.pipeline.statistics.schema import Results

HEADING = "HSCC against each other method"


def comparisons_section(results: Results) -> Section | Absent:
    """Lay out the paired comparisons; absent where HSCC and another method were not run at the same budget."""
    table = comparison_table(results)
    if not table.lines:
        return Absent(HEADING, "HSCC and another method were not run at the same budget.")
    return Section("comparisons", HEADING, {"table": table})
