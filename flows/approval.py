"""Ask a person before a version becomes the champion: ``python -m flows.approval``.

The policy is judged first; a version that it refuses asks nobody. Where ``promote.approval`` is true the flow then
waits in Prefect (state *Paused*) for someone to press *Resume* and say yes or no, and why; the answer goes into the
registry's trail. An answer that does not come in time promotes nothing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, get_run_logger, pause_flow_run
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas import State
from prefect.input import RunInput
from prefect.states import Completed, Failed
from pydantic import Field

from flows import parameters
from hscc.errors import HSCCError
from hscc.pipeline import layout
from hscc.pipeline.commands.promote import Proposal, consider, promote
from hscc.pipeline.params import read_params
from hscc.pipeline.redaction import redact
from hscc.pipeline.registry.audit_log import CHALLENGER

DAY = 86_400  # seconds


class Approval(RunInput):
    """The form that the person who resumes the run fills in."""

    approve: bool = Field(default=False, description="Make this version the champion?")
    by: str = Field(min_length=1, description="Your name, kept in the registry's audit log.")
    reason: str = Field(default="", description="Why, kept in the registry's audit log.")


@flow(name="promote", validate_parameters=False, persist_result=False)
def ask_and_promote(which: parameters.Version = CHALLENGER, wait_seconds: parameters.Patience = DAY) -> State[None]:
    """Promote a version of the workspace in the current folder, after a person has agreed where the policy asks.

    Parameters
    ----------
    which : str
        Version number or alias.
    wait_seconds : int
        How long to wait for the person.

    Returns
    -------
    State
        Completed, with who approved; or Failed with the rule that refuses, or the person's refusal.
    """
    try:
        params = read_params(layout.PARAMS)
        proposal = consider(params, which=which)
        _publish(proposal)
        if not proposal.passes:
            return Failed(message=f"version {proposal.challenger} is not promoted: {proposal.refusal}")
        answer = _ask(proposal, wait_seconds) if params.promote.approval else None
        if answer is not None and not answer.approve:
            said = f"{answer.by} said no. {answer.reason}".strip()
            return Failed(message=f"version {proposal.challenger} is not promoted: {said}")
        # By number: the challenger may be another one by the time the person has answered.
        promote(
            params,
            which=proposal.challenger,
            reason=answer.reason if answer else "",
            by=answer.by if answer else None,
        )
    except HSCCError as error:
        return Failed(message=redact(str(error)))
    agreed = f", approved by {answer.by}" if answer else ""
    return Completed(message=f"version {proposal.challenger} of {proposal.name} is the champion{agreed}")


def _publish(proposal: Proposal) -> None:
    for line in proposal.lines:
        get_run_logger().info(line)
    rows = [
        f"| {finding.rule} | {'kept' if finding.passed else '**failed**'} | {finding.text} |"
        for finding in proposal.findings
    ]
    table = "\n".join(["| rule | | |", "| --- | --- | --- |", *rows])
    about = f"{proposal.name}, version {proposal.challenger}"
    create_markdown_artifact(markdown=table, key="promotion", description=about)


def _ask(proposal: Proposal, wait_seconds: int) -> Approval:
    question = f"Promote version {proposal.challenger} of {proposal.name}?\n\n" + "\n".join(
        f"- {line}" for line in proposal.lines
    )
    form = Approval.with_initial_data(description=question)
    return pause_flow_run(wait_for_input=form, timeout=wait_seconds, poll_interval=2)


def main(
    workspace: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder that holds params.yaml.")
    ] = Path("."),
    which: Annotated[str, typer.Option("--version", help="Number of a version, or an alias.")] = CHALLENGER,
    wait_seconds: Annotated[int, typer.Option(min=1, help="How long to wait for the person.")] = DAY,
) -> None:
    """Judge the challenger, ask a person where the policy says so, and promote it."""
    with contextlib.chdir(workspace):
        state = ask_and_promote(which, wait_seconds, return_state=True)
    if not state.is_completed():
        typer.echo(f"error: {redact(str(state.message))}", err=True)
        raise typer.Exit(1)
    typer.echo(state.message)


if __name__ == "__main__":
    typer.run(main)
