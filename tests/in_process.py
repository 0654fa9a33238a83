"""Command lines run in this process: a tenth of the time of a process of their own."""

import contextlib
import io
import sys
from pathlib import Path
from unittest import mock


def dvc(workspace: Path, *arguments: str) -> str:
    """Run DVC's command line and give what it printed."""
    from dvc.cli import main

    with (
        contextlib.chdir(workspace),
        contextlib.redirect_stdout(io.StringIO()) as printed,
        mock.patch.object(sys, "argv", ["dvc", *arguments]),  # DVC looks at pytest's -q and -v else
    ):
        status = main([*arguments])
    assert status == 0, printed.getvalue()
    return printed.getvalue().strip()
