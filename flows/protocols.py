"""``make protocols``: the paper's methods under the other split protocols, one DVC experiment per protocol.

What an experiment found is copied to ``reports/protocols/``, where `hscc protocols` and docs/results.md read it.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.pipeline import reports_of
from hscc.budgets.budget import Budget
from hscc.errors import HSCCError
from hscc.pipeline import layout
from hscc.pipeline.cell_spec import CellSpec
from hscc.pipeline.data_spec import Protocol
from hscc.pipeline.params import read_params
from hscc.pipeline.redaction import redact

# The paper's methods, and what is made of its own here. One seed: another moves a network by less than the test set's
# error, see docs/results.md.
CELLS = tuple(
    CellSpec(method, Budget(macs=ratio)).name
    for ratio in (3, 6)
    for method in ("global_svd", "tucker", "hscc_paper", "hscc")
)
LAST = "evaluate"  # what is under another split is not for the registry


def run(workspace: Path, protocols: Sequence[Protocol]) -> list[Path]:
    """Run the graph under other split protocols and keep their results tables; what has been run is not run again.

    Parameters
    ----------
    workspace : Path
        Folder of ``dvc.yaml``; the current folder.
    protocols : sequence of {"grouped", "pooled", "official"}
        Split protocols.

    Returns
    -------
    list of Path
        The results tables, relative to `workspace`.

    Raises
    ------
    HSCCError
        If a run fails, or an experiment cannot be made; no table is kept then.
    """
    found = [reports_of(workspace, (LAST,), CELLS, protocol) / layout.RESULTS_JSON.name for protocol in protocols]
    # Copied only now: an experiment is named by the files as they are, and a killed one must be found again.
    kept = [layout.PROTOCOLS / f"{protocol}.json" for protocol in protocols]
    for table, place in zip(found, kept, strict=True):
        (workspace / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table, workspace / place)
    return kept


def main(
    workspace: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder that holds .dvc and dvc.yaml.")
    ] = Path("."),
) -> None:
    """Run the paper's methods under every split protocol but that of params.yaml."""
    try:
        with contextlib.chdir(workspace):
            data = read_params(layout.PARAMS).data
            others = [protocol for protocol in data.protocols if protocol != data.protocol]
            for kept in run(Path.cwd(), others):
                typer.echo(kept)
    except HSCCError as error:
        typer.echo(f"error: {redact(str(error))}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
