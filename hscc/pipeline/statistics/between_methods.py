"""Every network against Global SVD at the same budget and seed, on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hscc.pipeline.artifacts import FLOAT, Network
from hscc.pipeline.names import goal
from hscc.pipeline.statistics.comparisons import KL, Evidence, comparison_columns, difference, difference_columns, holm

PARTNERS = ("global_svd", "global_svd_adaptive")  # the first that was run at the budget
PREFIX = "global_svd_"
_ENDS = ("", "_se", "_low", "_high")
COLUMNS = (
    f"{PREFIX}partner",
    *(f"{PREFIX}accuracy_difference{end}" for end in _ENDS),
    f"{PREFIX}mcnemar_p",
    *(f"{PREFIX}kl_difference{end}" for end in _ENDS),
    f"{PREFIX}mcnemar_p_holm",
)


def compare_global_svd(evidence: Mapping[Network, Evidence]) -> dict[Network, dict[str, Any]]:
    """Compare each compressed network with the Global SVD beside it.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        All networks tested on one split; int8 twins and baselines are passed over.

    Returns
    -------
    dict of Network to dict
        `COLUMNS` for every network that has a partner: Global SVD of the same budget, kind of budget and seed, the
        adaptive form where the plain one was not run. Differences are the network's figure minus Global SVD's; Holm's
        correction is over all of these tests.
    """
    floats = [network for network in evidence if network.precision == FLOAT and not network.is_dense]
    found = {network: _partner(network, floats) for network in floats}
    compared = {
        network: _columns(evidence[network], evidence[partner], partner.method)
        for network, partner in found.items()
        if partner is not None
    }
    adjusted = holm([columns[f"{PREFIX}mcnemar_p"] for columns in compared.values()])
    for columns, value in zip(compared.values(), adjusted, strict=True):
        columns[f"{PREFIX}mcnemar_p_holm"] = value
    return compared


def _partner(network: Network, others: list[Network]) -> Network | None:
    kind = goal(network.method)
    beside = {
        other.method: other
        for other in others
        if (other.budget, other.seed, goal(other.method)) == (network.budget, network.seed, kind)
    }
    partner = next((beside[name + kind] for name in PARTNERS if name + kind in beside), None)
    return None if partner == network else partner


def _columns(ours: Evidence, theirs: Evidence, partner: str) -> dict[str, Any]:
    figures = {
        **comparison_columns(ours, theirs),
        **difference_columns("kl", difference(ours, theirs, KL)),
    }
    return {f"{PREFIX}partner": partner, **{f"{PREFIX}{name}": value for name, value in figures.items()}}


SUBJECT = "hscc"


def compare_rivals(evidence: Mapping[Network, Evidence]) -> list[dict[str, Any]]:
    """Compare HSCC with each rival, pair by pair.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        All networks tested on one split; int8 twins are passed over.

    Returns
    -------
    list of dict
        An entry for each HSCC cell and rival: ``budget``, ``seed``, ``method``, ``against``, then the paired
        differences HSCC minus rival of accuracy and of KL to the baseline with standard error and 95 % interval, and
        McNemar's p.
    """
    floats = [network for network in evidence if network.precision == FLOAT]
    return [
        {
            "budget": ours.budget,
            "seed": ours.seed,
            "method": ours.method,
            "against": theirs.method,
            **comparison_columns(evidence[ours], evidence[theirs]),
            **difference_columns("kl", difference(evidence[ours], evidence[theirs], KL)),
        }
        for ours in floats
        if ours.method == SUBJECT + goal(ours.method)
        for theirs in floats
        if theirs.method != ours.method
        and (theirs.budget, theirs.seed, goal(theirs.method)) == (ours.budget, ours.seed, goal(ours.method))
    ]


@dataclass(frozen=True)
class Control:
    """A method without something.

    Attributes
    ----------
    method : str
        Its name.
    lacks : str
        What it lacks, in words; empty for HSCC itself.
    against : str or None
        Method that has it and is the same otherwise.
    """

    method: str
    lacks: str
    against: str | None


CONTROLS = (
    Control("hscc", "", None),
    Control("hscc_direct", "projection", "hscc"),
    Control("hscc_unclustered", "clusters", "hscc_direct"),
    Control("global_groups", "regions", "hscc_direct"),
    Control("random_channels", "co-activation: channels grouped at random", "hscc_direct"),
    Control("random_regions", "place: cells dealt to regions at random", "hscc_direct"),
    Control("hscc_unweighted", "output weighting", "hscc_direct"),
    Control("hscc_uniform", "adaptive ranks", "hscc_direct"),
    Control("tucker_adaptive", "regions and clusters", "hscc"),  # it has the projection
    Control("global_svd_adaptive", "regions and clusters", "hscc_direct"),
)


def ablation(evidence: Mapping[Network, Evidence], seed: int) -> list[dict[str, Any]]:
    """Compare each control that was run with the method that it lacks something of.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        All networks tested on one split.
    seed : int
        Of the networks to look at.

    Returns
    -------
    list of dict
        By budget, then in the order of `CONTROLS`: what the control lacks, its own scores, and the paired differences
        control minus `against` of accuracy and KL to the baseline with standard error and 95 % interval, McNemar's p
        and Holm's correction of it within the budget; None where `against` was not run.
    """
    ours = {
        (network.method, network.budget): network
        for network in evidence
        if network.precision == FLOAT and not network.is_dense and network.seed == seed
    }
    budgets = sorted({budget for method, budget in ours if method == CONTROLS[0].method})
    return [row for budget in budgets for row in _of_budget(ours, evidence, budget)]


def _of_budget(
    ours: Mapping[tuple[str, float], Network], evidence: Mapping[Network, Evidence], budget: float
) -> list[dict[str, Any]]:
    run = [control for control in CONTROLS if (control.method, budget) in ours]
    rows = []
    for control in run:
        network = ours[control.method, budget]
        against = ours.get((control.against, budget)) if control.against else None
        rows.append(
            {
                "budget": budget,
                "method": control.method,
                "lacks": control.lacks,
                "against": control.against,
                "seed": network.seed,
                **_own(network, evidence[network]),
                **(_EMPTY if against is None else _compared(evidence[network], evidence[against])),
            }
        )
    _correct(rows)
    return rows


def _own(network: Network, found: Evidence) -> dict[str, float | None]:
    return {
        "predicted_loss": network.predicted_loss,
        "val_kl_before": network.val_kl_before,
        **{f"{name}{end}": value for name in (KL, "accuracy") for end, value in found.with_error(name).items()},
    }


def _compared(control: Evidence, against: Evidence) -> dict[str, float | None]:
    return {
        **comparison_columns(control, against),
        **difference_columns("kl", difference(control, against, KL)),
        "mcnemar_p_holm": None,
    }


_EMPTY: dict[str, float | None] = {
    **{f"accuracy_difference{end}": None for end in ("", "_se", "_low", "_high")},
    "mcnemar_p": None,
    **{f"kl_difference{end}": None for end in ("", "_se", "_low", "_high")},
    "mcnemar_p_holm": None,
}


def _correct(rows: Iterable[dict[str, Any]]) -> None:
    tested = [row for row in rows if row["mcnemar_p"] is not None]
    for row, value in zip(tested, holm([row["mcnemar_p"] for row in tested]), strict=True):
        row["mcnemar_p_holm"] = value
