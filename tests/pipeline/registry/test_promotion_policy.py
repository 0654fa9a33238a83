from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hscc.pipeline.registry.promotion_policy import Finding, Rules, Standing, compare, judge
from hscc.pipeline.score_names import score_label

RULES = Rules(
    margin=0.02, min_images=100, min_recall=0.7, min_macs_ratio=2.0, min_speedup=1.0, max_latency_ms=5.0,
    protocol="grouped", classes=tuple(f"class {number}" for number in range(4)), resamples=500,
)  # fmt: skip
FIGURES = {"macs_ratio": 6.0, "speedup_b1": 2.0, "latency_ms_b1": 3.0}
TAGS = {"protocol": "grouped", "phantom": "false"}


def evidence(wrong: set[int], images: range = range(400), dense_wrong: set[int] = frozenset()) -> pd.DataFrame:
    label = np.array([f"class {number % 4}" for number in images])
    predicted = [np.where([number in errors for number in images], "other", label) for errors in (wrong, dense_wrong)]
    return pd.DataFrame(
        {"sha256": [f"{number:04}" for number in images], "copy": 0, "group": images, "label": label,
         "predicted": predicted[0], "dense": predicted[1]}
    )  # fmt: skip


def standing(number: str = "2", wrong: set[int] = frozenset(), **changes: Any) -> Standing:
    given = {"tags": TAGS, "figures": FIGURES, "evidence": evidence(set(wrong)), **changes}
    return Standing(number, **given)


def failed(findings: list[Finding]) -> dict[str, str]:
    return {finding.rule: finding.text for finding in findings if not finding.passed}


def test_a_version_that_is_as_good_and_cheap_passes_every_rule() -> None:
    findings = judge(standing(), standing("1"), RULES)
    assert failed(findings) == {}
    assert [finding.rule for finding in findings] == [
        "no phantom", "protocol", "accuracy", "recall", "MACs", "speed", "latency"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "rule", "words"),
    [
        ({"tags": {**TAGS, "phantom": "true"}}, "no phantom", "drawn images"),
        ({"tags": {"protocol": "grouped"}}, "no phantom", "does not say whether .* run `hscc register` again"),
        ({"tags": {**TAGS, "phantom": "False?"}}, "no phantom", "does not say"),
        ({"tags": {**TAGS, "protocol": "pooled"}}, "protocol", "was tested under pooled, grouped is required"),
        ({"figures": {**FIGURES, "macs_ratio": 1.5}}, "MACs", "missed by 0.50"),
        ({"figures": {**FIGURES, "speedup_b1": 0.9}}, "speed", "missed by 0.10"),
        ({"figures": {**FIGURES, "speedup_b1": None}}, "speed", "measure it"),
        ({"figures": {**FIGURES, "latency_ms_b1": 7.5}}, "latency", "missed by 2.50 ms"),
    ],
)
def test_each_rule_refuses_by_itself_and_says_by_how_much(changes: dict[str, Any], rule: str, words: str) -> None:
    found = failed(judge(standing(**changes), standing("1"), RULES))
    assert list(found) == [rule]
    assert re.search(words, found[rule])


def test_a_loss_beyond_the_margin_is_refused_and_a_small_one_is_not() -> None:
    assert "missed by" in failed(judge(standing(wrong=set(range(0, 400, 20))), standing("1"), RULES))["accuracy"]
    assert failed(judge(standing(wrong={1}), standing("1"), RULES)) == {}


def test_little_evidence_refuses_as_a_loss_does() -> None:
    # The same images, each network wrong on other ones: no difference, but an interval wider than the margin.
    ours, theirs = set(range(0, 400, 8)), set(range(1, 400, 8))
    difference, images = compare(standing(wrong=ours), standing("1", theirs), RULES)
    assert difference is not None
    assert (difference.value, images) == (0.0, 400)
    assert (difference.estimate().low or 0.0) < -RULES.margin
    assert "accuracy" in failed(judge(standing(wrong=ours), standing("1", theirs), RULES))


def test_images_of_one_group_are_no_evidence() -> None:
    one = evidence({1}).assign(group=7)
    assert compare(standing(evidence=one), standing("1"), RULES)[0] is None
    assert "accuracy" in failed(judge(standing(evidence=one), standing("1", evidence=one), RULES))


def test_errors_that_both_make_cancel() -> None:
    both = set(range(0, 400, 8))
    difference, _ = compare(standing(wrong=both), standing("1", both), RULES)
    assert difference is not None
    found = difference.estimate()
    assert (found.low, found.value, found.high) == (0.0, 0.0, 0.0)


def test_only_images_that_both_were_tested_on_count() -> None:
    other = standing("1", evidence=evidence(set(), range(350, 750)))
    found = failed(judge(standing(), other, RULES))
    assert found == {"accuracy": "shares 50 test images with champion version 1, 100 are required"}


def test_the_first_champion_is_held_against_its_dense_network() -> None:
    worse = standing(evidence=evidence(set(range(0, 400, 10)), dense_wrong={0}))
    found = failed(judge(worse, None, RULES))
    assert "against its dense network on 400 common images" in found["accuracy"]


def test_the_lowest_recall_is_the_one_that_counts() -> None:
    wrong = set(range(3, 400, 8))  # half of class 3
    found = failed(judge(standing(wrong=wrong), standing("1", wrong), RULES))
    assert found == {"recall": "lowest recall 50.0 % (class 3), 70.0 % is required, missed by 20.0 points"}


def test_a_class_without_test_images_fails_the_recall_rule() -> None:
    seen = evidence(set(range(400)))
    seen = seen[seen["label"] != "class 2"].assign(predicted=seen["label"])
    assert failed(judge(standing(evidence=seen), standing("1"), RULES)) == {
        "recall": "was tested on no image of class 2, so nothing is known of its recall"
    }


def with_chances(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with probabilities: nearly all to the predicted class."""
    columns = {
        f"{prefix}{name}": np.where(frame[column].replace("other", "class 3") == name, 0.9, 0.02)
        for prefix, column in (("p_", "predicted"), ("dense_p_", "dense"))
        for name in RULES.classes
    }
    return frame.assign(**columns)


def test_the_primary_score_decides() -> None:
    rules = replace(RULES, score="balanced_accuracy", min_recall=0.0)
    rare = pd.concat(
        [evidence({0, 4, 8, 12}).iloc[: 5 * 4 : 4], evidence(set()).iloc[1::4], evidence(set()).iloc[2::4]]
    )
    ours, theirs = with_chances(rare), with_chances(rare.assign(predicted=rare["label"]))
    difference, images = compare(standing(evidence=ours), standing("1", evidence=theirs), rules)
    assert images == len(rare)
    assert difference.value == pytest.approx(-4 / 5 / 3)  # of five images of one of three classes four are wrong
    against_dense, _ = compare(standing(evidence=ours), None, rules)
    assert against_dense.value == pytest.approx(difference.value)
    silent = standing("1", evidence=rare)
    assert "kept no probabilities" in failed(judge(standing(evidence=ours), silent, rules))["balanced accuracy"]


def test_segmentations_are_judged_by_the_score_of_each_image() -> None:
    rules = replace(RULES, score="dice", classes=("background", "vessel"))
    values = np.linspace(0.7, 0.9, 120)
    frame = pd.DataFrame(
        {"sha256": [f"{n:03}" for n in range(120)], "copy": 0, "group": range(120), "value": values - 0.01,
         "dense_value": values}
    )  # fmt: skip
    figures = {**FIGURES, "recall_background": 0.98, "recall_vessel": 0.8}
    own = standing(evidence=frame, figures=figures)
    difference, _ = compare(own, None, rules)
    assert difference.value == pytest.approx(-0.01)
    assert failed(judge(own, None, rules)) == {}
    worse = standing("1", evidence=frame.assign(value=values - 0.1))
    assert compare(own, worse, rules)[0].value == pytest.approx(0.09)
    assert (
        "vessel"
        in failed(judge(standing(evidence=frame, figures={**figures, "recall_vessel": 0.5}), None, rules))["recall"]
    )


@pytest.mark.parametrize(("kind", "score"), [("p_", "roc_auc"), ("number_", "r2")])
def test_labels_and_values_are_compared_by_what_was_kept_of_each(kind: str, score: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (200, 2)).astype(float)
    good, poor = (np.clip(truth + noise * rng.normal(size=truth.shape), 0.01, 0.99) for noise in (0.5, 0.8))
    rules = replace(RULES, score=score, classes=("a", "b"), min_recall=0.7)

    def frame(own: np.ndarray, dense: np.ndarray) -> pd.DataFrame:
        known = pd.DataFrame({"sha256": [f"{n:03}" for n in range(200)], "copy": 0, "group": range(200)})
        for prefix, numbers in (("true_", truth), (kind, own), (f"dense_{kind}", dense)):
            known[[f"{prefix}a", f"{prefix}b"]] = numbers
        return known

    better, worse = (standing(each, evidence=frame(own, good)) for each, own in (("2", good), ("1", poor)))
    against_champion, against_dense = compare(worse, better, rules)[0], compare(worse, None, rules)[0]
    assert against_champion is not None and against_dense is not None
    assert against_champion.value == pytest.approx(against_dense.value) and against_champion.value < -0.02
    assert score_label(score) in failed(judge(worse, better, rules))
    recalls = {"recall_a": 0.9, "recall_b": 0.4}
    found = failed(judge(standing(evidence=better.evidence, figures={**FIGURES, **recalls}), worse, rules))
    assert list(found) == (["recall"] if kind == "p_" else [])
