"""What the checks found in the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.html.sources import SEVERITIES, Finding

HEADING = "What was found in the images"
_SHOWN = 40  # images named per finding; a file holds the others


def data_section(findings: Sequence[Finding]) -> Section | Absent:
    """Lay out the findings, the most severe first; absent where the checks found nothing or did not run."""
    if not findings:
        return Absent(HEADING, "reports/data.json names no finding.")
    ordered = sorted(findings, key=lambda found: list(SEVERITIES).index(found.severity))
    return Section("data", HEADING, {"findings": [_shown(found) for found in ordered]})


def _shown(found: Finding) -> Mapping[str, Any]:
    count = len(found.images) if found.count is None else found.count
    images = found.images[:_SHOWN]
    badge = SEVERITIES[found.severity]
    return {"found": found, "badge": badge, "images": images, "count": count, "is_cut": count > len(images)}
