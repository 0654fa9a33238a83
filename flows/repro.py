"""``make repro``: `dvc repro` with one MLflow run above those of its stages; ``python -m flows.repro [ARGUMENT...]``.

`dvc repro` itself does the same work; its stages' runs then stand side by side.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from flows.commands import environment
from hscc.errors import HSCCError
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking import PARENT_RUN, stage_run


def reproduce(workspace: Path, arguments: Sequence[str] = ()) -> int:
    """Bring a workspace up to date by DVC alone.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    arguments : sequence of str
        Further arguments of `dvc repro`.

    Returns
    -------
    int
        Its exit status.

    Raises
    ------
    HSCCError
        If the address of the MLflow store makes no sense.
    """
    command = [sys.executable, "-m", "dvc", "repro", *arguments]
    params = {"command": " ".join(["dvc repro", *arguments])}
    with stage_run("pipeline", "repro", params, workspace=workspace, resumable=False) as run:
        known = {**environment(), PARENT_RUN: run.run_id}
        status = subprocess.run(command, cwd=workspace, env=known, check=False).returncode
        if status != 0:
            run.status = "FAILED"
    return status


if __name__ == "__main__":
    try:
        sys.exit(reproduce(Path(), sys.argv[1:]))
    except HSCCError as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        sys.exit(1)
