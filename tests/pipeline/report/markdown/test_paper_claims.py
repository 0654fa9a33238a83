from __future__ import annotations

import pytest

from hscc.pipeline.report.markdown.paper_claims import PAPER, Claim, beside_the_paper, claims_grid, judge_claims

from .tabled import make_document, make_pair, make_row

CLOSE = make_row("hscc", 6.0, gain=0.01)
PARTNER = {"global_svd_partner": "global_svd", "global_svd_mcnemar_p": 0.2}


def found(claims: list[Claim], claim: str) -> Claim:
    (one,) = [entry for entry in claims if entry.claim == claim]
    return one


def test_the_paper_s_figures_follow_from_each_other() -> None:
    assert PAPER.flops_ratio == pytest.approx(5.29, abs=0.01)
    assert PAPER.gain * PAPER.images == pytest.approx(10, abs=0.01)  # 430 and 440 images of 490 are right


@pytest.mark.parametrize(
    ("gain", "accuracy", "word"), [(0.01, "90.0", "reproduced"), (0.05, "95.0", "exceeded"), (-0.05, "85.0", "refuted")]
)
def test_verdicts_follow_from_intervals(gain: float, accuracy: str, word: str) -> None:
    row = make_row("hscc", 6.0, gain=gain)
    claims = judge_claims(make_document(row))
    assert found(claims, "Accuracy after it").verdict == word
    assert found(claims, "Compression gains accuracy").verdict == word  # +2.04 points are claimed
    assert found(claims, "FLOPs cut").verdict == "exceeded"
    assert found(claims, "The dense network's accuracy").verdict == "exceeded"


def test_the_speed_is_judged_with_its_error() -> None:
    assert found(judge_claims(make_document(CLOSE)), "Times faster").ours == "3.00× (2.90 to 3.10), batch 1"
    slow = make_row("hscc", 6.0, speedup_b1=1.3, speedup_b1_se=0.1)
    assert found(judge_claims(make_document(slow)), "Times faster").verdict == "reproduced"
    untimed = make_row("hscc", 6.0, speedup_b1=None)
    assert not [claim for claim in judge_claims(make_document(untimed)) if claim.claim == "Times faster"]


def test_the_network_judged_is_the_least_compressed_that_saves_as_much() -> None:
    rows = [make_row("hscc", budget) for budget in (3.0, 6.0, 12.0)]
    claims = judge_claims(make_document(*rows, make_row("hscc", 6.0, seed=1)))
    assert [claim.network for claim in claims] == ["Dense baseline", *["HSCC, 6×"] * 4]
    assert len(judge_claims(make_document(rows[0]))) == 1


def test_rivals_are_judged_by_the_paired_interval() -> None:
    pairs = [make_pair("global_svd", 6.0, 0.05), make_pair("tucker", 6.0, 0.01), make_pair("random_regions", 6.0, 0.5)]
    claims = judge_claims(make_document(CLOSE, comparisons=pairs))
    assert found(claims, "More accurate than Global SVD at 6×").verdict == "reproduced"
    assert found(claims, "More accurate than Tucker-2 at 6×").verdict == "undecided"
    assert len(claims) == 7


def test_the_paper_s_own_form_is_held_against_global_svd_by_its_row() -> None:
    columns = {f"global_svd_accuracy_difference{end}": value for end, value in
               {"": -0.1, "_se": 0.01, "_low": -0.12, "_high": -0.08}.items()}  # fmt: skip
    row = make_row("hscc_paper", 6.0, **PARTNER, **columns)
    claim = found(judge_claims(make_document(row)), "More accurate than Global SVD at 6×")
    assert (claim.network, claim.verdict) == ("HSCC as the paper has it, 6×", "refuted")
    assert claim.ours == "−10.0 (−12.0 to −8.0) points"


def test_tables_hold_the_paper_and_ours() -> None:
    document = make_document(CLOSE, make_row("tucker_adaptive", 6.0))
    text = beside_the_paper(document).to_markdown()
    assert "| paper: HSCC | 490 | 81.1 | 89.80 | +2.04 | 1.38 |" in text
    assert "| HSCC, 6× | 490 | 83.3 | 91.0 (89.0 to 93.0) | +1.0 (−1.0 to +3.0) | 3.00 |" in text
    assert "adaptive" not in text
    assert "| **reproduced** |" in claims_grid(judge_claims(document)).to_markdown()
