"""What each idea of HSCC is worth: the method against itself without one of them, at the same budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hscc.evaluation.holm import holm
from hscc.evaluation.networks import FLOAT, Network
from hscc.evaluation.scoring import KL, Evidence, comparison_columns, difference, difference_columns


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
