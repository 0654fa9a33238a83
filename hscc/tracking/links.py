"""From a report to the run behind it: a small file a job under ``reports/runs``."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hscc.stages import layout
from hscc.tracking.store import EXPERIMENT, shown_uri


def write_link(workspace: Path, name: str, run_id: str) -> None:
    """Note which MLflow run holds the figures of a job, replacing the note of an earlier run.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    name : str
        Name of the run, such as ``train-alexnet-grouped``.
    run_id : str
        MLflow's id of it.
    """
    path = workspace / layout.RUNS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    note = {"experiment": EXPERIMENT, "run_id": run_id, "store": shown_uri(workspace)}
    draft.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, path)
