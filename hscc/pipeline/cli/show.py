"""Verbs that show what was found: the tables of the last evaluation, and the figures in the documents."""

from __future__ import annotations

from typing import Annotated

import typer

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.cli.options import HERE, Workspace, console

RESULTS = "Results"

verbs = typer.Typer()


@verbs.command(rich_help_panel=RESULTS, epilog="Example: `hscc results --workspace demo`")
def results(
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Instead: the controls, and the means over the seeds.")
    ] = False,
    workspace: Workspace = HERE,
) -> None:
    """Print the table of the last evaluation, a row a network."""
    from hscc.pipeline.report.markdown.tables import ablation_grid, seeds_grid
    from hscc.pipeline.report.terminal import render
    from hscc.pipeline.statistics.results import read_document

    if not ablation:
        console().print(render(workspace / layout.RESULTS_JSON))
        return
    document = read_document(workspace / layout.RESULTS_JSON)
    for grid, rows in ((ablation_grid, document.get("ablation")), (seeds_grid, document.get("seeds"))):
        if rows:
            console().print(grid(rows).to_rich())


@verbs.command(rich_help_panel=RESULTS, epilog="Example: `make protocols && hscc protocols`")
def protocols(workspace: Workspace = HERE) -> None:
    """Print the same networks under each split protocol, side by side, and how much of the accuracy was leakage.

    `make protocols` runs the paper's methods under the pooled and the official split.
    """
    from hscc.pipeline.report.markdown.tables import protocols_grid
    from hscc.pipeline.statistics.robustness import compare_protocols, read_protocols

    found = read_protocols(workspace / layout.RESULTS_JSON, workspace / layout.PROTOCOLS)
    console().print(protocols_grid(compare_protocols(found)).to_rich())


@verbs.command(rich_help_panel=RESULTS, epilog="Example: `hscc figures`, or in a test `hscc figures --check`")
def figures(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a document disagrees.")] = False,
    workspace: Workspace = HERE,
) -> None:
    """Print the figures in the documents anew, from reports/."""
    from hscc.pipeline.commands import figures as stage

    if not check:
        written = stage.run(workspace)
        typer.echo(f"written: {', '.join(map(str, written))}" if written else "all figures are those of the reports")
        return
    found = [str(path) for path in stage.stale(workspace)]
    if found:
        raise ArtifactError(f"the figures of {' and '.join(found)} are not those of reports/; run `hscc figures`.")
    typer.echo("ok")
