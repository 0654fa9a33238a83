"""What the checks found in the images."""

from __future__ import annotations

from collections.abc import Sequence

from hscc.pipeline.data.report import Finding
from hscc.pipeline.report.html.section import Absent, Section

HEADING = "What was found in the images"
_BADGES = {"warning": "Warning", "note": "Note"}  # the most severe first


def data_section(findings: Sequence[Finding]) -> Section | Absent:
    """Lay out the findings, the most severe first; absent where the checks found nothing or did not run."""
    if not findings:
        return Absent(HEADING, "reports/data.json names no finding.")
    ordered = sorted(findings, key=lambda found: list(_BADGES).index(found.severity))
    return Section("data", HEADING, {"findings": ordered, "badges": _BADGES})
