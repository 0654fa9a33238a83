from __future__ import annotations

from typing import Any

import pytest

from hscc.pipeline.report.html.verdict import title, verdict

from .documents import ablation, comparison, document, interval, row

CHOSEN = row(
    "hscc", 6.0, macs_ratio=6.02, speedup_b1=2.1, speedup_b1_iqr=0.2, accuracy=0.892, size_bytes=38_000_000,
    **interval("accuracy_difference", -0.012, 0.009),
)  # fmt: skip
DENSE = row("dense", 1.0, role="baseline")


def told(**changes: Any) -> list[str]:
    return verdict(document(rows=[DENSE, CHOSEN], **changes), CHOSEN)


def entry(accuracy: float, kl: float, p: float, width: float = 0.001) -> dict[str, Any]:
    return {
        **ablation()[1], "mcnemar_p_holm": p, **interval("accuracy_difference", accuracy, 0.01),
        **interval("kl_difference", kl, width),
    }  # fmt: skip


def test_it_has_three_sentences() -> None:
    sentences = told()
    assert len(sentences) == 3
    assert all(sentence.endswith(".") and sentence.count(". ") == 0 for sentence in sentences)


def test_the_gain_has_its_interval() -> None:
    assert told()[0] == (
        "HSCC, 6× needs 6.0 times fewer MACs, runs 2.1 times faster (IQR 0.2) one image at a time and is a file 6.0 "
        "times smaller, at a test accuracy of 89.2 % against 90.4 % of the dense network: −1.2 ± 0.9 points, 95 % "
        "interval −3.0 to +0.6, within noise."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"speedup_b1": 0.8, "speedup_b1_iqr": 0.1}, "runs 1.2 times slower"),
        ({"speedup_b1": 1.02, "speedup_b1_iqr": 0.06}, "is no faster than the clock can tell"),
        ({"speedup_b1": None}, "was not timed"),
        ({"accuracy_difference_high": -0.001}, "beyond noise"),
    ],
)
def test_the_gain_is_honest(changes: dict[str, Any], words: str) -> None:
    changed = {**CHOSEN, **changes}
    assert words in verdict(document(rows=[DENSE, changed]), changed)[0]


def test_controls_that_cannot_be_told_apart() -> None:
    assert told(ablation=[entry(-0.01, 0.01, 0.3), entry(-0.01, -0.01, 0.8), entry(0.01, 0.0, 0.9)])[1] == (
        "In 3 comparisons at 3× one idea is taken away from HSCC, and none can be told by accuracy (McNemar's test "
        "with Holm's correction, lowest p 0.3); predictions go farther from the dense network's in one and nearer in "
        "one (paired 95 % intervals of KL)."
    )


def test_controls_that_are_better_and_worse() -> None:
    found = told(ablation=[entry(-0.05, 0.01, 0.01), entry(-0.04, 0.01, 0.0001), entry(0.05, 0.0, 0.02)])[1]
    assert "accuracy is lost beyond noise in two and gained in one" in found


def test_without_controls_the_nearest_rival_is_named() -> None:
    pairs = [comparison("tucker"), comparison("global_svd", **interval("accuracy_difference", -0.013, 0.01))]
    assert told(ablation=[], comparisons=pairs)[1] == (
        "At 6× HSCC is not the most accurate method: −1.3 ± 1.0 points to Global SVD (within noise); no control was "
        "run."
    )
    assert "is the most accurate method, +2.0" in told(ablation=[], comparisons=[comparison("tucker")])[1]
    assert "shares the best" in told(
        ablation=[], comparisons=[comparison("tucker", **interval("accuracy_difference", 0.0, 0.01))]
    )[1]  # fmt: skip


def test_nothing_is_claimed_where_there_was_nothing_to_compare() -> None:
    assert len(told(ablation=[], comparisons=[])) == 2


def test_limits_name_protocol_seeds_and_the_worth_of_an_image() -> None:
    assert told()[2] == (
        "All this is one seed on one public data set, split by the grouped protocol, in which no test image has a "
        "near-copy in training; of its 120 test images one is worth 0.83 points, and nothing here is a clinical claim."
    )
    assert "drawn images" in told(phantom=True)[2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "6.0 times fewer MACs, 2.1 times faster, accuracy within noise"),
        ({"speedup_b1": None}, "6.0 times fewer MACs, accuracy within noise"),
        ({"speedup_b1": 0.5, "accuracy_difference_high": -0.001}, "2.0 times slower, 1.2 points of accuracy lost"),
    ],
)
def test_titles(changes: dict[str, Any], words: str) -> None:
    assert title({**CHOSEN, **changes}).endswith(words)
