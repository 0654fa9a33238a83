from __future__ import annotations

import pytest

from hscc.pipeline.artifacts import Network
from hscc.pipeline.statistics.between_methods import compare_methods
from hscc.pipeline.statistics.comparisons import Evidence


def test_hscc_meets_each_method_once_per_budget(evidence: dict[Network, Evidence]) -> None:
    pairs = compare_methods(evidence)
    assert [(pair.budget.macs, pair.method, pair.difference.against) for pair in pairs] == [
        (3.0, "hscc", "global_svd"), (3.0, "hscc", "tucker"), (6.0, "hscc", "global_svd"), (6.0, "hscc", "tucker"),
    ]  # fmt: skip


def test_differences_are_hscc_minus_the_other(evidence: dict[Network, Evidence]) -> None:
    by_name = {network.name: found for network, found in evidence.items()}
    found = compare_methods(evidence)[0].difference
    ours, theirs = by_name["hscc-macs3-seed0"], by_name["global_svd-macs3-seed0"]
    for name, figure in (*found.scores.items(), ("kl", found.kl)):
        expected = ours.scores[name].value - theirs.scores[name].value
        assert figure.value == pytest.approx(expected)
    assert set(found.scores) == {"accuracy", "balanced_accuracy", "macro_f1", "roc_auc"}
    for name, figure in found.f1.items():
        assert figure.value == pytest.approx(ours.by_class["f1"][name].value - theirs.by_class["f1"][name].value)
    assert list(found.f1) == ["glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor"]
    assert found.kl.low < found.kl.value < found.kl.high
    assert 0 < found.mcnemar_p <= 1


def test_without_hscc_there_is_nothing_to_compare(evidence: dict[Network, Evidence]) -> None:
    assert compare_methods({key: value for key, value in evidence.items() if key.method != "hscc"}) == []
