from __future__ import annotations

from typing import Any

import pytest

from hscc.pipeline.report.sentences import findings, gain, headline, limits, standing, title, verdict
from hscc.pipeline.statistics.schema import Comparison, NetworkRow, Results

from .documents import compared, control, network, pair, results_of


def about(results: Results, begin: str) -> str:
    (found,) = [sentence for sentence in findings(results) if sentence.startswith(f"**{begin}")]
    return found


def test_all_speak_of_the_chosen_network() -> None:
    fast = network("hscc", {"macs": 10.0, "latency": 7.5}, speedup=8.0)
    lossy = network("tucker", 12.0, gain=-0.1, speedup=20.0)
    results = results_of(network("hscc", 6.0), fast, lossy)
    assert results.chosen() == fast
    for said in (headline(results), verdict(results)[0], about(results, "Fastest of those that pass"), gain(results)):
        assert "asked for 10× fewer MACs and 7.5× faster" in said
    assert title(fast) == "10.0 times fewer MACs, 8.0 times faster, accuracy within noise"


def test_a_chosen_network_that_misses_a_requirement_is_called_so() -> None:
    results = results_of(network("hscc", 6.0, gain=-0.1))
    assert results.shortfalls(results.chosen())
    for said in (headline(results), verdict(results)[0]):
        assert "No network meets the requirements" in said and "loses 10.00 points" in said
    assert about(results, "Nearest to the dense network")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speedup": 3.0}, "runs 3.0 times faster at batch 1"),
        ({"speedup": 0.5}, "runs 2.0 times slower at batch 1"),
        ({"speedup": 1.02}, "within the noise of the clock"),
        ({"timed": False}, "was not timed"),
        ({"gain": -0.05}, "beyond noise"),
        ({"gain": 0.01}, "within noise"),
    ],
)
def test_the_gain_is_honest(changes: dict[str, Any], words: str) -> None:
    assert words in gain(results_of(network(**changes)))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (network(timed=False), "6.0 times fewer MACs, accuracy within noise"),
        (network(gain=-0.05, speedup=0.5), "2.0 times slower, 5.0 points of accuracy lost"),
    ],
)
def test_titles(row: NetworkRow, words: str) -> None:
    assert title(row).endswith(words)


def test_other_methods_are_counted_by_budgets_and_seeds() -> None:
    pairs = [
        pair("global_svd", 6.0, 0.05), pair("global_svd", 3.0, 0.0), pair("tucker", 6.0, -0.05), pair("hscc_paper"),
    ]  # fmt: skip
    rows = [network(method) for method in ("global_svd", "tucker", "hscc_paper", "hscc")]
    said = standing(results_of(*rows, comparisons=pairs))
    assert "Global SVD in 1 of 2" in said and "Tucker-2 in 0 of 1 (below in 1)" in said and "paper" not in said
    assert "No other method" in standing(results_of(network()))


def controls(*differences: Comparison) -> str:
    return verdict(results_of(network(), ablation=[control(difference=found) for found in differences]))[1]


def test_controls_are_counted_by_accuracy_and_by_kl() -> None:
    same = controls(
        compared("hscc", -0.01, 0.03, mcnemar_p_holm=0.3), compared("hscc", 0.01, -0.03, mcnemar_p_holm=0.8)
    )
    assert "no difference of accuracy is beyond noise" in same and "lowest p 0.300" in same
    assert "farther from the dense network's in one and nearer in one" in same
    real = controls(compared("hscc", -0.05, mcnemar_p_holm=0.01), compared("hscc", 0.05, mcnemar_p_holm=0.02))
    assert "lost beyond noise in one and gained in one" in real


def test_the_setting_names_protocol_seeds_and_what_one_image_is() -> None:
    said = verdict(results_of(network()))[-1]
    assert "one seed" in said and "grouped protocol" in said and "0.83 points" in said and "clinical claim" in said
    assert "drawn images" in verdict(results_of(network(), phantom=True))[-1]


def test_the_limits_are_computed() -> None:
    official = network("dense", protocol="official", gain=-0.4)
    said = limits(results_of(network(gain=-0.01, speedup=8.0), network("tucker", 12.0, gain=-0.02), official))
    for words in (
        "A loss of 3.0 points",
        "a gain of 1.0",
        "picked among 2",
        "Tucker-2, 12× fewer MACs",
        "50.0 ± 1.0 %",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("gain", "said"), [(-0.05, "A loss of 7.0 points is as compatible with these images as one of 3.0"),
                       (0.05, "A gain of 3.0 points is as compatible with these images as one of 7.0")],
)  # fmt: skip
def test_an_interval_on_one_side_of_zero_has_two_losses_or_two_gains(gain: float, said: str) -> None:
    assert said in limits(results_of(network(gain=gain)))


def test_the_papers_figures_stand_beside_its_own_classes_only() -> None:
    own = results_of(network())
    other = own.model_copy(update={"classes": ("NORMAL", "PNEUMONIA")})
    assert sum("paper" in said for said in findings(own)) >= 2
    assert not any("The paper turns" in said or "the paper's gain" in said for said in findings(other))


def test_methods_are_sorted_by_what_the_intervals_allow() -> None:
    pairs = [
        pair("global_svd", 6.0, 0.05), pair("tucker", 6.0, 0.0), pair("tucker_adaptive", 6.0, -0.05),
        pair("global_svd_adaptive", 6.0, 0.05), pair("global_svd_adaptive", 6.0, 0.0, 1),
    ]  # fmt: skip
    others = [network(method) for method in ("global_svd", "global_svd_adaptive", "tucker", "tucker_adaptive")]
    said = about(results_of(network(), *others, comparisons=pairs), "HSCC, 6× fewer MACs")
    assert "is above Global SVD (+5.0, +3.0 to +7.0)" in said
    assert "is below Tucker-2, adaptive (−5.0" in said
    assert "is within noise of Tucker-2 (0.0, −2.0 to +2.0)" in said
    assert "not the same in every seed against Global SVD, adaptive (0.0 to +5.0; above in 1, below in 0)" in said


def test_losses_are_counted_and_corrected() -> None:
    sure = compared("dense", -0.05, mcnemar_p_holm=0.01)
    lost = network("tucker", gain=-0.05, against_dense=sure)
    rows = [lost, network("tucker", seed=1, gain=-0.04), network("global_svd", gain=-0.03), network()]
    said = about(results_of(*rows), "Beyond the paired interval")
    assert "3 of 4 networks" in said and "Tucker-2, 6× fewer MACs (−5.0, −4.0)" in said
    assert said.endswith("Tucker-2, 6× fewer MACs (p 0.010).")
    assert about(results_of(network()), "No network")


def test_a_budget_of_time_is_judged_by_its_worst_batch() -> None:
    row = network("hscc", {"latency": 5.0}, speedup=4.9)
    assert "HSCC 4.9× where 5× was asked" in about(results_of(row), "Budgets of time")
    assert not [said for said in findings(results_of(network())) if said.startswith("**Budgets of time")]
