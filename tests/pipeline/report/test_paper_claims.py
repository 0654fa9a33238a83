from __future__ import annotations

from typing import Any

import pytest

from hscc.pipeline.report.paper_claims import PAPER, Claim, claims_table, judge_claims, paper_table
from hscc.pipeline.report.renderings import to_markdown
from hscc.pipeline.statistics.schema import NetworkRow, Results

from .documents import around, compared, network, pair, results_of, timing


def pooled(method: str = "hscc", macs: float = 6.0, **changes: Any) -> NetworkRow:
    return network(method, macs, protocol="pooled", **changes)


def judged(*rows: NetworkRow, **changes: Any) -> list[Claim]:
    return judge_claims({"pooled": results(*rows, **changes)})


def results(*rows: NetworkRow, **changes: Any) -> Results:
    return results_of(*rows, protocol="pooled", **changes)


def verdict_of(claims: list[Claim], claim: str) -> str:
    (one,) = [entry for entry in claims if entry.claim == claim]
    return one.verdict


def test_the_papers_figures_follow_from_each_other() -> None:
    assert PAPER.flops_ratio == pytest.approx(5.29, abs=0.01)
    assert PAPER.gain * PAPER.images == pytest.approx(10, abs=0.01)  # 430 and 440 images of 490 are right


@pytest.mark.parametrize(("gain", "word"), [(0.01, "reproduced"), (0.05, "exceeded"), (-0.05, "refuted")])
def test_verdicts_follow_from_intervals(gain: float, word: str) -> None:
    claims = judged(pooled(gain=gain))
    assert verdict_of(claims, "Accuracy after it") == word
    assert verdict_of(claims, "Compression gains accuracy") == word  # +2.04 points are claimed
    assert verdict_of(claims, "FLOPs cut") == "exceeded"
    assert verdict_of(claims, "The dense network's accuracy") == "exceeded"


def test_the_speed_is_judged_with_its_error() -> None:
    assert verdict_of(judged(pooled(speedup=3.0)), "Times faster") == "exceeded"
    assert verdict_of(judged(pooled(timings=(timing(1, 6.0, 1.35),))), "Times faster") == "reproduced"
    assert not [claim for claim in judged(pooled(timed=False)) if claim.claim == "Times faster"]


def test_the_network_judged_is_the_least_compressed_that_saves_as_much() -> None:
    rows = [pooled(macs=macs) for macs in (3.0, 6.0, 12.0)]
    claims = judged(*rows, pooled(seed=1), network("hscc", {"latency": 6.0}, protocol="pooled"))
    assert {claim.network for claim in claims} == {"Dense baseline", "HSCC, 6× fewer MACs"}
    assert len(judged(rows[0])) == 1


def test_methods_are_judged_by_the_paired_interval() -> None:
    pairs = [pair("global_svd", 6.0, 0.05), pair("tucker", 6.0, 0.01), pair("random_regions", 6.0, 0.5)]
    claims = judged(pooled(), comparisons=pairs)
    assert verdict_of(claims, "More accurate than Global SVD") == "reproduced"
    assert verdict_of(claims, "More accurate than Tucker-2") == "undecided"
    assert not [claim for claim in claims if "random" in claim.claim]


def test_the_papers_own_form_is_compared_with_global_svd_by_its_row() -> None:
    row = pooled("hscc_paper", against_global_svd=compared("global_svd", -0.1))
    (claim,) = [claim for claim in judged(row) if claim.claim == "More accurate than Global SVD"]
    assert claim.network.startswith("HSCC as the paper has it") and claim.verdict == "refuted"
    assert "−10.0 (−12.0 to −8.0)" in claim.ours


def test_macro_f1_and_hard_classes_are_judged() -> None:
    """The paper claims both; the table of verdicts once had neither."""
    better = {"macro_f1": around(0.05), "f1": {"meningioma_tumor": around(-0.05), "glioma_tumor": around(0.01)}}
    row = pooled(against_dense=compared("dense", 0.0, **better))
    claims = judged(row)
    assert verdict_of(claims, "Better macro F1 than dense") == "reproduced"
    assert verdict_of(claims, "Better F1 of meningioma than dense") == "refuted"
    assert verdict_of(claims, "Better F1 of glioma (the hardest) than dense") == "undecided"
    assert "| Better macro F1 than dense | pooled |" in to_markdown(claims_table(claims))


def test_f1_without_paired_differences_has_a_wider_interval_and_says_so() -> None:
    rows = [pooled(macro_f1=around(0.95)), pooled("tucker", macro_f1=around(0.9))]
    (claim,) = [claim for claim in judged(*rows) if claim.claim == "Better macro F1 than Tucker-2"]
    assert claim.verdict == "reproduced"
    assert claim.ours == "+5.0 (+2.2 to +7.8) points, unpaired"


def test_f1_is_judged_under_our_own_protocol_too() -> None:
    claims = judge_claims({"grouped": results_of(network()), "pooled": results(pooled())})
    assert {claim.protocol for claim in claims if "F1" in claim.claim} == {"grouped", "pooled"}
    assert {claim.protocol for claim in claims if "F1" not in claim.claim} == {"pooled"}


def test_the_papers_rows_stand_above_ours() -> None:
    text = to_markdown(paper_table(results(pooled(gain=0.01), pooled("tucker_adaptive"))))
    assert "| paper: HSCC | – | 490 | 81.1 | 89.80 | +2.04 | 1.38 |" in text
    assert "| HSCC | 6× | 120 | 83.3 | 91.0 (89.0 to 93.0) | +1.0 (−1.0 to +3.0) | 3.00 |" in text
    assert "adaptive" not in text
