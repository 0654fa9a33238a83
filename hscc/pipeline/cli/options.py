"""Options and helpers that the commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hscc.pipeline import layout

if TYPE_CHECKING:
    from rich.console import Console

    from hscc.pipeline.params import Params

Workspace = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Folder that holds params.yaml, data/, artifacts/ and reports/.",
    ),
]
HERE = Path(".")
WIDE = 120  # columns


def console() -> Console:
    """Make a console for tables, `WIDE` where the output is no terminal."""
    from rich.console import Console

    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = WIDE  # a pipe has no width of its own; figures must not be folded
    return made


def read_params(workspace: Path) -> Params:
    """Read the parameters of a workspace."""
    from hscc.pipeline.params import read_params as read

    return read(workspace / layout.PARAMS)
