"""``make repro``: `dvc repro` with one MLflow run above those of its stages; ``python -m flows.repro [ARGUMENT...]``.

`dvc repro` itself does the same work; its stages' runs then stand side by side.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import typer

from flows.commands import environment
from hscc.errors import HSCCError
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking import PARENT_RUN, stage_run


def reproduce(workspace: Path, arguments: Sequence[str] = (), say: Callable[[str], object] | None = None) -> int:
    """Bring a workspace up to date by DVC alone.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``.
    arguments : sequence of str
        Further arguments of `dvc repro`.
    say : callable, optional
        Takes each line that it and its stages print; by default they are printed.

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
        status = _run(command, workspace, known, say)
        if status != 0:
            run.status = "FAILED"
    return status


def _run(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], say: Callable[[str], object] | None
) -> int:
    if say is None:
        return subprocess.run(command, cwd=folder, env=variables, check=False).returncode
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**variables, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            say(line)
    return process.returncode


if __name__ == "__main__":
    try:
        sys.exit(reproduce(Path(), sys.argv[1:]))
    except HSCCError as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        sys.exit(1)
