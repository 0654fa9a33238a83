"""The same networks under other split protocols, side by side: how much near-copies in training raise the score."""

from __future__ import annotations

from collections.abc import Mapping

from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.tables.comparison_tables import protocols_table
from hscc.pipeline.statistics.robustness import compare_protocols
from hscc.pipeline.statistics.schema import Results

HEADING = "What depends on the split"
MEANINGS = {
    "grouped": "random split in which near-copies of one image stay together: no test image has a near-copy in "
    "training",
    "pooled": "random split that ignores near-copies, as papers often do: it raises all scores",
    "official": "the data set's own test images, less the files that are also among its training images",
}


def protocols_section(documents: Mapping[str, Results]) -> Section | Absent:
    """Lay the protocols out side by side, the report's own first; absent where there is only one."""
    dense = compare_protocols(documents)[0]
    if len(dense.protocols) < 2:
        return Absent(HEADING, "only one split protocol was run.")
    content = {
        "table": protocols_table(documents),
        "protocols": [(name, MEANINGS.get(name, ""), found.n_test) for name, found in dense.protocols.items()],
        "leakage": dense.leakage,
        "leakage_se": dense.leakage_se,
    }
    return Section("protocols", HEADING, content)
