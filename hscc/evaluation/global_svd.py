"""Every network against Global SVD at the same budget and seed, on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.evaluation.holm import holm
from hscc.evaluation.names import goal
from hscc.evaluation.networks import FLOAT, Network
from hscc.evaluation.scoring import KL, Evidence, comparison_columns, difference, difference_columns

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
