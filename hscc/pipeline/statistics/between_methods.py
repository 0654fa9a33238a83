"""Networks of different methods at the same budget and seed, on the same images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hscc.budgets.budget import Budget
from hscc.pipeline.artifacts import Network
from hscc.pipeline.statistics.comparisons import Evidence, compare, with_holm
from hscc.pipeline.statistics.schema import AblationRow, Comparison, MethodComparison, asked

SUBJECT = "hscc"
GLOBAL_SVD = ("global_svd", "global_svd_adaptive")  # the first that was run


def against_global_svd(evidence: Mapping[Network, Evidence]) -> dict[Network, Comparison]:
    """Compare each compressed network with Global SVD at the same budget and seed.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        All networks tested on one split; int8 variants and baselines are passed over.

    Returns
    -------
    dict of Network to Comparison
        The network minus Global SVD, in its adaptive form where the plain one was not run; without the networks for
        which neither was run. Holm's correction is over all of these tests.
    """
    pairs = [
        (network, group[reference])
        for group in _side_by_side(evidence).values()
        if (reference := next((method for method in GLOBAL_SVD if method in group), None))
        for method, network in group.items()
        if method != reference
    ]
    found = with_holm([compare(evidence[network], evidence[other], other.method) for network, other in pairs])
    return {network: comparison for (network, _), comparison in zip(pairs, found, strict=True)}


def compare_methods(evidence: Mapping[Network, Evidence]) -> list[MethodComparison]:
    """Compare HSCC with every other method at the same budget and seed.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        All networks tested on one split; int8 variants and baselines are passed over.

    Returns
    -------
    list of MethodComparison
        HSCC minus the other.
    """
    return [
        MethodComparison(
            budget=asked(budget),
            seed=seed,
            method=SUBJECT,
            difference=compare(evidence[group[SUBJECT]], evidence[other], method),
        )
        for (budget, seed), group in _side_by_side(evidence).items()
        if SUBJECT in group
        for method, other in group.items()
        if method != SUBJECT
    ]


def _side_by_side(networks: Iterable[Network]) -> dict[tuple[Budget, int], dict[str, Network]]:
    """Compressed networks by budget and seed, then by method."""
    groups: dict[tuple[Budget, int], dict[str, Network]] = {}
    for network in networks:
        if network.spec and network.precision == "fp32":
            groups.setdefault((network.spec.budget, network.seed), {})[network.method] = network
    return groups


@dataclass(frozen=True)
class Ablation:
    """A method without one idea.

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


ABLATIONS = (
    Ablation("hscc", "", None),
    Ablation("hscc_direct", "projection", "hscc"),
    Ablation("hscc_unclustered", "clusters", "hscc_direct"),
    Ablation("global_groups", "regions", "hscc_direct"),
    Ablation("random_channels", "co-activation: channels grouped at random", "hscc_direct"),
    Ablation("random_regions", "place: cells dealt to regions at random", "hscc_direct"),
    Ablation("hscc_unweighted", "output weighting", "hscc_direct"),
    Ablation("hscc_uniform", "adaptive ranks", "hscc_direct"),
    Ablation("tucker_adaptive", "regions and clusters", "hscc"),  # it has the projection
    Ablation("global_svd_adaptive", "regions and clusters", "hscc_direct"),
)


def ablation(evidence: Mapping[Network, Evidence]) -> list[AblationRow]:
    """Compare each method of `ABLATIONS` that was run with the method that it lacks something of.

    Parameters
    ----------
    evidence : mapping of Network to Evidence
        All networks tested on one split. Cells of further seeds, and those whose plan was measured and not predicted
        (a budget of latency), are passed over.

    Returns
    -------
    list of AblationRow
        By budget, then in the order of `ABLATIONS`; Holm's correction is within the budget.
    """
    groups = _side_by_side(evidence)
    first = min((seed for _, seed in groups), default=0)
    found = {
        (budget.macs or 0.0, budget.params or 0.0): _ablate(budget, group, evidence)
        for (budget, seed), group in groups.items()
        if seed == first and budget.latency is None and SUBJECT in group
    }
    return [row for _, rows in sorted(found.items(), key=lambda item: item[0]) for row in rows]


def _ablate(budget: Budget, group: Mapping[str, Network], evidence: Mapping[Network, Evidence]) -> list[AblationRow]:
    run = [ablated for ablated in ABLATIONS if ablated.method in group]
    compared = {
        ablated.method: compare(evidence[group[ablated.method]], evidence[group[ablated.against]], ablated.against)
        for ablated in run
        if ablated.against is not None and ablated.against in group
    }
    corrected = dict(zip(compared, with_holm(list(compared.values())), strict=True))
    rows = []
    for ablated in run:
        network = group[ablated.method]
        scores = evidence[network].scores
        rows.append(
            AblationRow(
                budget=asked(budget),
                method=ablated.method,
                lacks=ablated.lacks,
                seed=network.seed,
                score=evidence[network].primary,
                scores={evidence[network].primary: scores[evidence[network].primary].estimate()},
                kl=scores["kl"].estimate(),
                predicted_loss=network.validation.predicted_loss,
                val_kl_before=network.validation.kl_before,
                difference=corrected.get(ablated.method),
            )
        )
    return rows
