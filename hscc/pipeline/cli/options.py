"""What the verbs of the command line share. Nothing heavy is imported before it is used."""

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
    """Make a console that prints tables, as wide as `WIDE` where nobody looks."""
    from rich.console import Console

    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = WIDE  # a pipe has no width to fit; do not fold figures
    return made


def read_params(workspace: Path) -> Params:
    """Read the parameters of a workspace."""
    from hscc.pipeline.params import read_params as read

    return read(workspace / layout.PARAMS)
