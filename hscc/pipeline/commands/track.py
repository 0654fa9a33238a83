"""Log what waited while the tracking server was down, and register what could not be registered."""

from __future__ import annotations

from pathlib import Path

from hscc.errors import HSCCError
from hscc.pipeline import layout
from hscc.pipeline.params import read_params
from hscc.pipeline.tracking import send_backlog


def run(workspace: Path = Path(".")) -> list[str]:
    """Send everything that waits; returns one line per run and registration that was sent.

    Raises
    ------
    HSCCError
        If the server still does not answer.
    """
    sent = send_backlog(workspace)
    if (workspace / layout.POSTPONED_REGISTRATION).is_file():
        from hscc.pipeline.stages import register  # imports torch

        register.run(read_params(workspace / layout.PARAMS), workspace)
        if (workspace / layout.POSTPONED_REGISTRATION).is_file():
            raise HSCCError("the registration still waits for the MLflow registry; start it, then `hscc track` again.")
        sent.append("registration: done")
    return sent
