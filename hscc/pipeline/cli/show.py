"""Commands that show results: the tables of the last evaluation, and the figures in the documents."""

from __future__ import annotations

from typing import Annotated

import typer

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.cli.options import HERE, Workspace, console

RESULTS = "Results"

commands = typer.Typer()


@commands.command(rich_help_panel=RESULTS, epilog="Example: `hscc results --workspace demo`")
def results(
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Print the controls and the means over the seeds instead.")
    ] = False,
    workspace: Workspace = HERE,
) -> None:
    """Print the table of the last evaluation, one row per network."""
    from hscc.pipeline.report.renderings import to_rich
    from hscc.pipeline.report.tables.comparison_tables import ablation_table, seeds_table
    from hscc.pipeline.report.tables.results_table import brief_note, brief_table
    from hscc.pipeline.statistics.schema import read_results

    found = read_results(workspace / layout.RESULTS_JSON)
    if not ablation:
        console().print(to_rich(brief_table(found), brief_note(found)))
        return
    if found.ablation:
        console().print(to_rich(ablation_table(found.ablation)))
    if found.seeds:
        console().print(to_rich(seeds_table(found.seeds)))


@commands.command(rich_help_panel=RESULTS, epilog="Example: `make protocols && hscc protocols`")
def protocols(workspace: Workspace = HERE) -> None:
    """Print the same networks under each split protocol, side by side, and how much near-copies raise the score.

    `make protocols` runs the paper's methods under the pooled and the official split.
    """
    from hscc.pipeline.report.renderings import to_rich
    from hscc.pipeline.report.tables.comparison_tables import protocols_table
    from hscc.pipeline.statistics.robustness import read_protocols

    found = read_protocols(workspace / layout.RESULTS_JSON, workspace / layout.PROTOCOLS)
    console().print(to_rich(protocols_table(found)))


@commands.command(rich_help_panel=RESULTS, epilog="Example: `hscc figures`, or in a test `hscc figures --check`")
def figures(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a document disagrees.")] = False,
    workspace: Workspace = HERE,
) -> None:
    """Print the figures in the documents again, from reports/."""
    from hscc.pipeline.commands import figures as stage

    if not check:
        written = stage.run(workspace)
        typer.echo(f"written: {', '.join(map(str, written))}" if written else "all figures are those of the reports")
        return
    found = [str(path) for path in stage.stale(workspace)]
    if found:
        raise ArtifactError(f"the figures of {' and '.join(found)} are not those of reports/; run `hscc figures`.")
    typer.echo("ok")
