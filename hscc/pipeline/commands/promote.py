"""Promote a version to champion by the policy of ``params.yaml``, or roll back; every change is in the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hscc.errors import HSCCError
from hscc.pipeline.params import Params
from hscc.pipeline.registry.aliases import change_alias, current_user
from hscc.pipeline.registry.audit_log import (
    CHALLENGER,
    CHAMPION,
    PROMOTE,
    ROLLBACK,
    Entry,
    alias_of,
    predecessor,
    read_audit_log,
)
from hscc.pipeline.registry.promotion_policy import Finding, Rules, judge
from hscc.pipeline.registry.versions import find, read_standing, resolve
from hscc.pipeline.tracking import tracking_uri

FLOW = "promote/promote"  # the flow that asks a person for approval


class PromotionRefused(HSCCError):  # noqa: N818  a decision, not a fault
    """The policy does not allow a promotion, or there is nothing to go back to."""


@dataclass(frozen=True)
class Proposal:
    """The policy's findings on one version.

    Attributes
    ----------
    name : str
        The registered model.
    challenger : str
        The version to be promoted.
    champion : str or None
        The current champion.
    findings : list of Finding
        Every rule.
    """

    name: str
    challenger: str
    champion: str | None
    findings: list[Finding]

    @property
    def passes(self) -> bool:
        """Whether every rule passes."""
        return all(finding.passed for finding in self.findings)

    @property
    def lines(self) -> list[str]:
        """One line per rule, those that failed first."""
        ordered = sorted(self.findings, key=lambda finding: finding.passed)
        return [f"{'ok' if finding.passed else 'NO'} {finding.rule}: {finding.text}" for finding in ordered]

    @property
    def refusal(self) -> str:
        """The rules that failed, and by how much."""
        return "; ".join(f"{finding.rule}: {finding.text}" for finding in self.findings if not finding.passed)


def consider(params: Params, workspace: Path = Path("."), which: str = CHALLENGER) -> Proposal:
    """Judge a version by the policy; nothing changes.

    Parameters
    ----------
    params : Params
        Sections ``promote`` and ``register.name`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.
    which : str
        Version number or alias.

    Returns
    -------
    Proposal
        The finding of every rule.

    Raises
    ------
    RegistryError
        If there is no such version, or the registry does not answer.
    """
    name, uri = params.register_.name, tracking_uri(workspace)
    challenger, champion = resolve(name, which, uri), find(name, CHAMPION, uri)
    other = None if champion is None or champion.number == challenger.number else read_standing(champion, uri)
    findings = judge(read_standing(challenger, uri), other, _rules(params))
    return Proposal(name, challenger.number, None if champion is None else champion.number, findings)


def promote(
    params: Params,
    workspace: Path = Path("."),
    which: str = CHALLENGER,
    *,
    force: bool = False,
    reason: str = "",
    by: str | None = None,
) -> Proposal:
    """Make a version the champion, if the policy allows it or it is forced.

    Parameters
    ----------
    params : Params
        Sections ``promote`` and ``register.name`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.
    which : str
        Version number or alias.
    force : bool
        Overrule the policy; needs a reason.
    reason : str
        Kept in the audit log.
    by : str, optional
        The person who approved, where the policy requires it; by default the user, HSCC_USER or the login name.

    Returns
    -------
    Proposal
        The finding of every rule.

    Raises
    ------
    PromotionRefused
        If a rule fails and it is not forced, it is forced without a reason, or nobody approved where the policy
        requires it; nothing changed then.
    RegistryError
        If there is no such version, the champion changed meanwhile, or the registry does not answer.
    """
    if force and not reason.strip():
        raise PromotionRefused("--force overrules the policy and needs --reason, which is recorded; give one.")
    if params.promote.approval and not by and not force:
        raise PromotionRefused(
            f"params.yaml requires a person's approval (promote.approval); run the flow {FLOW}, which waits for it, "
            "or overrule that with --force --reason TEXT."
        )
    proposal = consider(params, workspace, which)
    if proposal.champion == proposal.challenger:
        return proposal
    if not proposal.passes and not force:
        raise PromotionRefused(
            f"version {proposal.challenger} of {proposal.name} is not promoted: {proposal.refusal}; fix that, or "
            "overrule it with --force --reason TEXT."
        )
    entry = Entry(
        action=PROMOTE,
        alias=CHAMPION,
        before=proposal.champion,
        after=proposal.challenger,
        by=by or current_user(),
        reason=reason,
        forced=force and (not proposal.passes or (params.promote.approval and not by)),
        findings=tuple(proposal.lines),
    )
    change_alias(proposal.name, entry, tracking_uri(workspace))
    return proposal


def roll_back(params: Params, workspace: Path = Path("."), *, reason: str = "", to: str | None = None) -> Entry:
    """Make the previous champion the champion again.

    Parameters
    ----------
    params : Params
        ``register.name`` is used.
    workspace : Path
        Folder of ``dvc.yaml``.
    reason : str
        Kept in the audit log.
    to : str, optional
        Another earlier champion to return to.

    Returns
    -------
    Entry
        The change.

    Raises
    ------
    PromotionRefused
        If there is no champion, or none before it, or the target is the champion or never was.
    RegistryError
        If there is no such version, or the registry does not answer.
    """
    name, uri = params.register_.name, tracking_uri(workspace)
    current = alias_of(name, CHAMPION, uri)
    if current is None:
        raise PromotionRefused(f"{name} has no champion to roll back; `hscc promote` makes one.")
    log = read_audit_log(name, CHAMPION, uri)
    target = to or predecessor(log, current)
    if target is None:
        raise PromotionRefused(
            f"version {current} is the first champion of {name}, there is none before it; name another with --to."
        )
    target = resolve(name, target, uri).number
    if target == current:
        raise PromotionRefused(f"version {current} of {name} already is the champion; name another with --to.")
    if target not in {version for entry in log if entry.done for version in (entry.before, entry.after)}:
        raise PromotionRefused(
            f"version {target} of {name} never was the champion; promote it with `hscc promote --version {target}`."
        )
    entry = Entry(ROLLBACK, CHAMPION, current, target, current_user(), reason)
    change_alias(name, entry, uri)
    return entry


def _rules(params: Params) -> Rules:
    section = params.promote.model_dump(exclude={"approval"})
    settings = params.evaluate
    return Rules(
        **section,
        classes=params.data.classes,
        score=settings.score,
        resamples=settings.resamples,
        seed=settings.seed,
    )
