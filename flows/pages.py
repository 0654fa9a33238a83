"""Where a browser finds the report: on the MLflow server, where there is one, which holds a copy.

A page of a server may not open files of the machine that shows it, so a link to the file helps nobody who clicks on it.
"""

from __future__ import annotations

import json
from pathlib import Path

from hscc.pipeline.tracking import StoreDown, open_client, run_page, server_address
from hscc.pipeline.tracking.store import store_errors

JOB = "report-*.json"  # the notes of stage report, under any protocol


def artifacts_page(notes: Path) -> str | None:
    """Give the address under which MLflow's own page shows what the latest run of stage report kept.

    Parameters
    ----------
    notes : Path
        Folder ``reports/runs``, which names the run behind each job.

    Returns
    -------
    str or None
        Without a slash at the end; None where the store is no server, does not answer, or never got the run.
    """
    run = _latest(notes)
    if run is None or server_address() is None:
        return None
    try:
        client = open_client()
        with store_errors():
            client.get_run(run)
    except StoreDown:
        return None
    page = run_page(client, run)
    return page and f"{page}/artifacts"


def _latest(notes: Path) -> str | None:
    found = max(notes.glob(JOB), key=lambda note: note.stat().st_mtime, default=None)
    try:
        return None if found is None else str(json.loads(found.read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # notes, no results: a damaged one costs a link
