"""``make protocols``: the paper's methods under the other split protocols, each a DVC experiment of the same graph.

What an experiment found is copied to ``reports/protocols/``, where `hscc protocols` and docs/results.md read it.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.experiments import kept_reports, name_of
from flows.parameters import overrides
from flows.pipeline import pipeline
from hscc.errors import HSCCError
from hscc.params import read_params
from hscc.redaction import redact
from hscc.stages import layout

METHODS = ("global_svd", "tucker", "hscc_paper", "hscc")  # those of the paper, and what is made of its own here
BUDGETS = (3.0, 6.0)
LAST = "evaluate"  # what is under another split is not for the registry


def run(workspace: Path, protocol: str) -> Path:
    """Run the graph under one split protocol and keep its results table.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``; the current folder.
    protocol : str
        Split protocol.

    Returns
    -------
    Path
        The results table, relative to `workspace`.

    Raises
    ------
    HSCCError
        If the run fails, or the experiment cannot be made.
    """
    name = name_of(workspace, overrides(METHODS, BUDGETS, protocol))
    state = pipeline((LAST,), METHODS, BUDGETS, protocol, return_state=True)
    if not state.is_completed():
        raise HSCCError(str(state.message))
    found = kept_reports(workspace, name) / layout.RESULTS_JSON.name
    kept = layout.PROTOCOLS / f"{protocol}.json"
    (workspace / kept).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(found, workspace / kept)
    return kept


def main(
    workspace: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder that holds .dvc and dvc.yaml.")
    ] = Path("."),
) -> None:
    """Run the paper's methods under every trained split protocol but that of params.yaml."""
    try:
        with contextlib.chdir(workspace):
            here = Path.cwd()
            params = read_params(layout.PARAMS)
            for protocol in params.train.protocols:
                if protocol != params.data.protocol:
                    typer.echo(f"{protocol}: {run(here, protocol)}")
    except HSCCError as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
