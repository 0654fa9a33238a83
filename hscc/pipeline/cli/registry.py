"""Commands around the registry: list, promote, roll back, predict, track; and the doctor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hscc.pipeline.cli.options import HERE, Workspace, console, read_params
from hscc.pipeline.score_names import score_label

if TYPE_CHECKING:
    from rich.table import Table

    from hscc.pipeline.registry.audit_log import Entry
    from hscc.pipeline.registry.versions import Version

REGISTRY = "Registry and use"

commands = typer.Typer()

Which = Annotated[str, typer.Option("--version", metavar="WHICH", help="Number of a version, or an alias.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept in the registry's audit log.")]


@commands.command("registry", rich_help_panel=REGISTRY, epilog="Example: `hscc registry`")
def list_registry(workspace: Workspace = HERE) -> None:
    """List the versions of the registered model with their scores, and the changes of champion and challenger."""
    from hscc.pipeline.registry.audit_log import CHALLENGER, CHAMPION, read_audit_log
    from hscc.pipeline.registry.versions import list_versions
    from hscc.pipeline.tracking import tracking_uri

    name, uri = read_params(workspace).register_.name, tracking_uri(workspace)
    shown = console()
    shown.print(versions_table(list_versions(name, uri)))
    for alias in (CHAMPION, CHALLENGER):
        log = read_audit_log(name, alias, uri)
        if log:
            shown.print(audit_table(alias, log))


@commands.command(rich_help_panel=REGISTRY, epilog="Example: `hscc promote`, or `hscc promote --version 3 --dry-run`")
def promote(
    which: Which = "challenger",
    force: Annotated[bool, typer.Option("--force", help="Overrule the policy; needs --reason.")] = False,
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the policy's findings; change nothing.")] = False,
    workspace: Workspace = HERE,
) -> None:
    """Make the challenger the champion, if the policy of params.yaml (section promote) allows it.

    A refusal names every rule that fails and by how much. Every promotion is kept in the registry's audit log with the
    findings, the user and the reason. Where the policy requires a person's approval, run the flow promote/promote.
    """
    from hscc.pipeline.commands import promote as command

    params = read_params(workspace)
    if dry_run:
        proposal = command.consider(params, workspace, which)
        approval = f" once a person agrees (flow {command.FLOW})" if params.promote.approval else ""
        outcome = f"may be promoted{approval}" if proposal.passes else "may not be promoted"
    else:
        proposal = command.promote(params, workspace, which, force=force, reason=reason)
        same = proposal.champion == proposal.challenger
        outcome = "already is the champion" if same else "is now the champion"
    typer.echo(f"version {proposal.challenger} of {proposal.name} {outcome}")
    for line in proposal.lines:
        typer.echo(f"  {line}")


@commands.command(rich_help_panel=REGISTRY, epilog='Example: `hscc rollback --reason "misses small gliomas"`')
def rollback(
    reason: Reason = "",
    to: Annotated[
        str | None,
        typer.Option(metavar="WHICH", help="Earlier champion to return to. [default: the one before the current]"),
    ] = None,
    workspace: Workspace = HERE,
) -> None:
    """Make the previous champion the champion again."""
    from hscc.pipeline.commands import promote as command

    params = read_params(workspace)
    done = command.roll_back(params, workspace, reason=reason, to=to)
    typer.echo(f"version {done.after} of {params.register_.name} is the champion again, in the place of {done.before}")


@commands.command(
    rich_help_panel=REGISTRY,
    epilog="Example: `hscc predict image.dcm --heatmap heatmaps/`, `hscc predict small.hscc image.png`",
)
def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[NETWORK] FILE...",
            help="Images as JPEG, PNG, DICOM, NIfTI or NumPy; before them, a file of `hscc export` (.hscc, .onnx).",
        ),
    ],
    which: Which = "champion",
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Write a PNG per file to DIR: what decided it, or a mask."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per file.")] = False,
    runtime: Annotated[
        Literal["auto", "engine", "onnxruntime", "openvino"],
        typer.Option(help="Where the network runs; auto is the engine where it can, else ONNX Runtime."),
    ] = "auto",
    workspace: Workspace = HERE,
) -> None:
    """Classify pictures with a registered version, or with a file: class, probabilities, and the version's number.

    Research software, not a medical device. What plainly is not what the network was made for is refused; a
    picture that passes may still not be.
    """
    from hscc.pipeline.commands import predict as command

    source: Version | Path
    if files[0].suffix in command.NETWORKS:
        source, *pictures = files
        if not pictures:
            raise typer.BadParameter(f"name a picture behind {source}.")
        answers = command.run_file(source, pictures, heatmaps=heatmap, runtime=runtime)
    else:
        source, answers = command.run(
            read_params(workspace), files, workspace, which=which, heatmaps=heatmap, runtime=runtime
        )  # fmt: skip
    if as_json:
        typer.echo(command.as_json(answers, source))
    else:
        console().print(command.as_table(answers, source))


@commands.command(rich_help_panel=REGISTRY, epilog="Example: `hscc track`")
def track(workspace: Workspace = HERE) -> None:
    """Log to MLflow what waited while its server was down, and register what could not be registered."""
    from hscc.pipeline.commands import track as command

    sent = command.run(workspace)
    for line in sent:
        typer.echo(line)
    if not sent:
        typer.echo("nothing waits")


@commands.command(epilog="Example: `hscc doctor`")
def doctor(workspace: Workspace = HERE) -> None:
    """Check the installation and the workspace; print what is missing and how to fix it, and exit with 1 if wrong."""
    from hscc.pipeline.commands import doctor as command

    checks = command.run(workspace)
    for check in checks:
        typer.echo(f"{check.state:<6}{check.name:<14}{check.text}")
    if any(check.state == command.WRONG for check in checks):
        raise typer.Exit(1)


_UNKNOWN = "–"


def versions_table(versions: Sequence[Version]) -> Table:
    """Show versions with their scores, one row each."""
    from rich.table import Table

    title = f"Versions of {versions[0].name}" if versions else "No version is registered"
    table = Table(title=title, title_justify="left")
    table.add_column("version", justify="right")
    for name in ("alias", "network", "protocol"):
        table.add_column(name)
    scores = {version.tags.get("score", "accuracy") for version in versions}
    score = f"{score_label(scores.pop())} %" if len(scores) == 1 else "score %"
    for name in (score, "F1 %", "MACs", "speed"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("data", "registered (UTC)"):
        table.add_column(name, no_wrap=True)
    for version in versions:
        table.add_row(*_version_row(version))
    return table


def audit_table(alias: str, log: Sequence[Entry]) -> Table:
    """Show the changes of an alias, the latest first."""
    from rich.table import Table

    table = Table(title=f"Changes of the {alias}", title_justify="left")
    for name in ("when", "what", "from", "to", "by", "why"):
        table.add_column(name)
    for entry in reversed(log):
        what = f"{entry.action}{', forced' if entry.forced else ''}{'' if entry.done else ', cut short'}"
        table.add_row(_utc(entry.at), what, entry.before or _UNKNOWN, entry.after, entry.by, entry.reason or _UNKNOWN)
    return table


def _version_row(version: Version) -> list[str]:
    from hscc.pipeline.registry.versions import PHANTOM_TAG

    tags = version.tags
    score = tags.get("score", "accuracy")  # early versions name none
    phantom = " (phantom)" if tags.get(PHANTOM_TAG) == "true" else ""
    return [
        version.number,
        ", ".join(version.aliases) or _UNKNOWN,
        tags.get("network", tags.get("method", _UNKNOWN)),  # early versions name only the method
        f"{tags.get('protocol', _UNKNOWN)}{phantom}",
        _percent(tags, score) + (f" ± {_percent(tags, f'{score}_se')}" if f"{score}_se" in tags else ""),
        _percent(tags, "macro_f1"),
        _times(tags, "macs_ratio"),
        _times(tags, "speedup_b1"),
        tags.get("data_hash", _UNKNOWN)[:7],
        _utc(version.created / 1000),
    ]


def _percent(tags: Mapping[str, str], name: str) -> str:
    return f"{100 * float(tags[name]):.1f}" if name in tags else _UNKNOWN


def _times(tags: Mapping[str, str], name: str) -> str:
    return f"{float(tags[name]):.2f}×" if name in tags else _UNKNOWN


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M")
