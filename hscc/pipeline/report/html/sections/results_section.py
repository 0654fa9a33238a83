"""All networks in one table: means over seeds at first, single seeds, controls and int8 variants on demand."""

from __future__ import annotations

from hscc.pipeline.report.html.section import Section
from hscc.pipeline.report.tables.results_table import INT8, SEED, results_table
from hscc.pipeline.statistics.schema import Results

_KINDS = {"compared": "methods", "control": "controls", SEED: "each seed", INT8: "int8 variants"}
_GROUPS = {
    "scores": "more scores",
    "svd": "against Global SVD",
    "clock": "times and memory",
    "torch": "in torch",
    "before": "before fine-tuning",
}


def results_section(results: Results) -> Section:
    """Lay out the results table with the kinds of rows and groups of columns that can be shown or hidden."""
    table = results_table(results)
    kinds = {line.kind for line in table.lines}
    groups = {column.group for column in table.columns}
    content = {
        "table": table,
        "kinds": {kind: label for kind, label in _KINDS.items() if kind in kinds},
        "groups": {group: label for group, label in _GROUPS.items() if group in groups},
        "several_seeds": SEED in kinds,
        "clock": results.clock,
    }
    return Section("results", "All networks", content)
