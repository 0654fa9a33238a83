from __future__ import annotations

from dataclasses import replace

import pytest

from hscc.budgets.budget import Budget
from hscc.methods import CONTROLS, METHODS
from hscc.pipeline.artifacts import Network
from hscc.pipeline.statistics.between_methods import ABLATIONS, ablation
from hscc.pipeline.statistics.comparisons import Evidence, holm

AS = {"global_svd": "hscc_direct", "tucker": "global_groups"}


def changed(network: Network, **changes: object) -> Network:
    return replace(network, spec=network.spec and replace(network.spec, **changes), seed=changes.get("seed", 0))


@pytest.fixture
def found(evidence: dict[Network, Evidence]) -> dict[Network, Evidence]:
    """Two of the methods called by the names of ablations."""
    renamed = {network: changed(network, method=AS.get(network.method, network.method)) for network in evidence}
    before = {"kl_before": 0.5}
    return {
        replace(renamed[network], validation=network.validation.model_copy(update=before)): value
        for network, value in evidence.items()
    }


def test_ablations_are_methods_that_can_be_run_and_every_control_is_one() -> None:
    assert {each.method for each in ABLATIONS} <= set(METHODS)
    assert {each.against for each in ABLATIONS} <= {None, *METHODS}
    assert set(CONTROLS) <= {each.method for each in ABLATIONS}


def test_each_is_compared_with_what_it_lacks_something_of(found: dict[Network, Evidence]) -> None:
    table = ablation(found)
    assert [(row.budget.macs, row.method, row.difference and row.difference.against) for row in table] == [
        (macs, method, against)
        for macs in (3.0, 6.0)
        for method, against in (("hscc", None), ("hscc_direct", "hscc"), ("global_groups", "hscc_direct"))
    ]
    _, direct, groups = table[:3]
    assert groups.difference.primary.value == pytest.approx(groups.primary.value - direct.primary.value)
    assert groups.difference.kl.value == pytest.approx(groups.kl.value - direct.kl.value)
    assert groups.difference.kl.low < groups.difference.kl.value < groups.difference.kl.high
    assert (groups.lacks, groups.val_kl_before) == ("regions", 0.5)
    family = [direct.difference, groups.difference]
    assert [each.mcnemar_p_holm for each in family] == holm([each.mcnemar_p for each in family])


def test_without_its_counterpart_it_is_shown_alone(found: dict[Network, Evidence]) -> None:
    lacking = {network: value for network, value in found.items() if network.method != "hscc_direct"}
    (row, *_) = [row for row in ablation(lacking) if row.method == "global_groups"]
    assert row.difference is None
    assert 0 < row.primary.value <= 1


def test_only_the_first_seed_and_planned_budgets_count(found: dict[Network, Evidence]) -> None:
    again = {changed(network, seed=1): value for network, value in found.items() if network.is_compressed}
    timed = {
        changed(network, budget=Budget(latency=3.0)): value for network, value in found.items() if network.is_compressed
    }
    assert ablation({**found, **again, **timed}) == ablation(found)
    assert ablation(timed) == []
