"""Verbs around the registry: list, promote, roll back, predict, track; and the doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hscc.pipeline.cli.options import HERE, Workspace, console, read_params

REGISTRY = "Registry and use"

verbs = typer.Typer()

Which = Annotated[str, typer.Option("--version", metavar="WHICH", help="Number of a version, or an alias.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the registry's trail.")]


@verbs.command("registry", rich_help_panel=REGISTRY, epilog="Example: `hscc registry`")
def list_registry(workspace: Workspace = HERE) -> None:
    """List the versions of the registered model with their scores, and the moves of champion and challenger."""
    from hscc.pipeline.registry.audit_log import CHALLENGER, CHAMPION, read_trail
    from hscc.pipeline.registry.listing import trail_table, versions_table
    from hscc.pipeline.registry.versions import list_versions
    from hscc.pipeline.tracking import tracking_uri

    name, uri = read_params(workspace).register_.name, tracking_uri(workspace)
    shown = console()
    shown.print(versions_table(list_versions(name, uri)))
    for alias in (CHAMPION, CHALLENGER):
        trail = read_trail(name, alias, uri)
        if trail:
            shown.print(trail_table(alias, trail))


@verbs.command(rich_help_panel=REGISTRY, epilog="Example: `hscc promote`, or `hscc promote --version 3 --dry-run`")
def promote(
    which: Which = "challenger",
    force: Annotated[bool, typer.Option("--force", help="Overrule the policy; needs --reason.")] = False,
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the policy says; move nothing.")] = False,
    workspace: Workspace = HERE,
) -> None:
    """Make the challenger the champion, if the policy of params.yaml (section promote) allows it.

    A refusal names every rule that fails and by how much. Every promotion is kept in the registry with what the rules
    said, who asked and why. Where the policy asks for a person's approval, the flow promote/promote promotes instead.
    """
    from hscc.pipeline.commands import promote as stage

    params = read_params(workspace)
    if dry_run:
        proposal = stage.consider(params, workspace, which)
        agreed = f" once a person agrees (flow {stage.FLOW})" if params.promote.approval else ""
        said = f"may be promoted{agreed}" if proposal.passes else "may not be promoted"
    else:
        proposal = stage.promote(params, workspace, which, force=force, reason=reason)
        same = proposal.champion == proposal.challenger
        said = "already is the champion" if same else "is now the champion"
    typer.echo(f"version {proposal.challenger} of {proposal.name} {said}")
    for line in proposal.lines:
        typer.echo(f"  {line}")


@verbs.command(rich_help_panel=REGISTRY, epilog='Example: `hscc rollback --reason "misses small gliomas"`')
def rollback(
    reason: Reason = "",
    to: Annotated[str | None, typer.Option(metavar="WHICH", help="Go to this earlier champion instead.")] = None,
    workspace: Workspace = HERE,
) -> None:
    """Give the champion's place back to the version before it."""
    from hscc.pipeline.commands import promote as stage

    params = read_params(workspace)
    done = stage.roll_back(params, workspace, reason=reason, to=to)
    typer.echo(f"version {done.after} of {params.register_.name} is the champion again, in the place of {done.before}")


@verbs.command(rich_help_panel=REGISTRY, epilog="Example: `hscc predict scan.dcm slice.png --heatmap heatmaps/`")
def predict(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Brain MRI slices as JPEG, PNG or DICOM.")],
    which: Which = "champion",
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Folder for pictures of where it looked."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object a file.")] = False,
    workspace: Workspace = HERE,
) -> None:
    """Classify pictures with the registered model: class, probabilities, and the version that says so.

    Research software, not a medical device. What is plainly no brain MRI slice is refused; a picture that passes may
    still be none.
    """
    from hscc.pipeline.commands import predict as stage
    from hscc.pipeline.serving.answer import as_table, as_text

    params = read_params(workspace)
    version, answers = stage.run(params, files, workspace, which=which, heatmaps=heatmap)
    if as_json:
        typer.echo(as_text(answers, version.name, version.number))
    else:
        console().print(as_table(answers, version.name, version.number))


@verbs.command(rich_help_panel=REGISTRY, epilog="Example: `hscc track`")
def track(workspace: Workspace = HERE) -> None:
    """Log to MLflow what waited while its server was down, and register what could not be registered."""
    from hscc.pipeline.commands import track as stage

    sent = stage.run(workspace)
    for line in sent:
        typer.echo(line)
    if not sent:
        typer.echo("nothing waits")


@verbs.command(epilog="Example: `hscc doctor`")
def doctor(workspace: Workspace = HERE) -> None:
    """Check the installation and the workspace; say what is missing and how to mend it."""
    from hscc.pipeline.commands import doctor as stage

    checks = stage.run(workspace)
    for check in checks:
        typer.echo(f"{check.state:<6}{check.name:<14}{check.text}")
    if any(check.state == stage.WRONG for check in checks):
        raise typer.Exit(1)
