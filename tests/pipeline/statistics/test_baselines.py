from __future__ import annotations

import pytest

from hscc.pipeline.artifacts import Network
from hscc.pipeline.statistics.between_methods import compare_rivals
from hscc.pipeline.statistics.comparisons import Evidence


def test_hscc_meets_each_rival_once_a_budget(evidence: dict[Network, Evidence]) -> None:
    pairs = compare_rivals(evidence)
    assert [(pair["budget"], pair["against"]) for pair in pairs] == [
        (3.0, "global_svd"), (3.0, "tucker"), (6.0, "global_svd"), (6.0, "tucker"),
    ]  # fmt: skip


def test_differences_are_hscc_minus_the_rival(evidence: dict[Network, Evidence]) -> None:
    by_name = {network.name: found for network, found in evidence.items()}
    pair = compare_rivals(evidence)[0]
    ours, theirs = by_name["hscc-3-0"], by_name["global_svd-3-0"]
    assert pair["accuracy_difference"] == pytest.approx(ours.scores["accuracy"] - theirs.scores["accuracy"])
    assert pair["kl_difference"] == pytest.approx(ours.scores["kl_to_baseline"] - theirs.scores["kl_to_baseline"])
    assert pair["kl_difference_low"] < pair["kl_difference"] < pair["kl_difference_high"]
    assert 0 < pair["mcnemar_p"] <= 1


def test_without_hscc_there_is_nothing_to_compare(evidence: dict[Network, Evidence]) -> None:
    assert compare_rivals({key: value for key, value in evidence.items() if key.method != "hscc"}) == []
