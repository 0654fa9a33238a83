"""What the checks found in the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hscc.pipeline.report.html.sections.section import Absent, Section

HEADING = "What was found in the images"
_SEVERITIES = {"error": "Error", "warning": "Warning", "note": "Note"}
_SHOWN = 40  # images named a finding; a file holds the others


def data_section(findings: Sequence[Mapping[str, Any]]) -> Section | Absent:
    """Lay out the findings, the gravest first.

    Parameters
    ----------
    findings : sequence of mapping
        ``severity``, ``title``, ``finding``, ``what_we_do``, ``images``, ``count``; all but the title may lack.

    Returns
    -------
    Section or Absent
        Absent where the checks found nothing or did not run.
    """
    if not findings:
        return Absent(HEADING, "reports/data.json names no finding.")
    order = list(_SEVERITIES)
    told = sorted((_finding(found) for found in findings), key=lambda found: order.index(found["severity"]))
    return Section("data", HEADING, {"findings": told})


def _finding(found: Mapping[str, Any]) -> dict[str, Any]:
    severity = found.get("severity", "note")
    severity = severity if severity in _SEVERITIES else "note"
    images = [image if isinstance(image, str) else " · ".join(map(str, image)) for image in found.get("images") or ()]
    count = found.get("count", len(images))
    return {
        "severity": severity,
        "badge": _SEVERITIES[severity],
        "title": found["title"],
        "finding": found.get("finding", ""),
        "what_we_do": found.get("what_we_do", ""),
        "images": images[:_SHOWN],
        "count": count,
        "is_cut": count > min(len(images), _SHOWN),
    }
