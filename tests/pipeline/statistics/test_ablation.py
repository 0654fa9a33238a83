from __future__ import annotations

from dataclasses import replace

import pytest

from hscc.methods import METHODS
from hscc.pipeline.artifacts import Network
from hscc.pipeline.statistics.between_methods import CONTROLS, ablation
from hscc.pipeline.statistics.comparisons import Evidence, holm

AS = {"global_svd": "hscc_direct", "tucker": "global_groups"}


@pytest.fixture
def found(evidence: dict[Network, Evidence]) -> dict[Network, Evidence]:
    return {
        replace(network, method=AS.get(network.method, network.method), val_kl_before=0.5): value
        for network, value in evidence.items()
    }


def test_controls_are_methods_that_can_be_run() -> None:
    assert {control.method for control in CONTROLS} <= set(METHODS)
    assert {control.against for control in CONTROLS} <= {None, *METHODS}


def test_each_control_is_held_against_what_it_lacks_something_of(found: dict[Network, Evidence]) -> None:
    table = ablation(found, 0)
    assert [(row["budget"], row["method"], row["against"]) for row in table] == [
        (budget, method, against)
        for budget in (3.0, 6.0)
        for method, against in (("hscc", None), ("hscc_direct", "hscc"), ("global_groups", "hscc_direct"))
    ]
    ours, direct, groups = table[:3]
    assert groups["accuracy_difference"] == pytest.approx(groups["accuracy"] - direct["accuracy"])
    assert groups["kl_difference"] == pytest.approx(groups["kl_to_baseline"] - direct["kl_to_baseline"])
    assert groups["kl_difference_low"] < groups["kl_difference"] < groups["kl_difference_high"]
    assert (groups["lacks"], groups["val_kl_before"]) == ("regions", 0.5)
    assert ours["accuracy_difference"] is None
    assert [direct["mcnemar_p_holm"], groups["mcnemar_p_holm"]] == holm([direct["mcnemar_p"], groups["mcnemar_p"]])
    assert len({tuple(row) for row in table}) == 1


def test_a_control_without_its_counterpart_is_shown_alone(found: dict[Network, Evidence]) -> None:
    lacking = {network: value for network, value in found.items() if network.method != "hscc_direct"}
    (row, *_) = [row for row in ablation(lacking, 0) if row["method"] == "global_groups"]
    assert row["against"] == "hscc_direct"
    assert row["accuracy_difference"] is row["mcnemar_p_holm"] is None
    assert 0 < row["accuracy"] <= 1


def test_only_one_seed_is_looked_at(found: dict[Network, Evidence]) -> None:
    assert ablation(found, 1) == []
