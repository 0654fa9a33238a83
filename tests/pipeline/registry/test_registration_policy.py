from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hscc.pipeline.registry.registration_policy import Policy, decide, shortfalls

POLICY = Policy(max_accuracy_drop=0.01, min_macs_ratio=2.0, min_speedup=1.0)


def row(method: str = "hscc", budget: float = 6.0, **changes: Any) -> dict[str, Any]:
    return {
        "method": method, "budget": budget, "seed": 0, "protocol": "grouped", "macs_ratio": budget, "speedup_b1": 1.5,
        "accuracy_difference": -0.005, "accuracy_difference_low": -0.02, "accuracy_difference_high": 0.01,
        "val_accuracy": 0.9, "val_kl": 0.1, **changes,
    }  # fmt: skip


def test_the_most_compressed_tier_that_passes_wins() -> None:
    decision = decide([row("a", 3.0, val_accuracy=0.99), row("b", 6.0), row("c", 9.0, speedup_b1=0.9)], POLICY)
    assert decision.chosen is not None
    assert decision.chosen["method"] == "b"
    assert decision.passed_over == ["a-3-0"]
    assert list(decision.rejected) == ["c-9-0"]
    assert decision.why == "b-6-0 is in the most compressed tier that passes, 6x, and the only one there."


def test_validation_decides_inside_a_tier_and_the_test_split_does_not() -> None:
    decision = decide([row("a", accuracy_difference=0.05), row("b", val_accuracy=0.91)], POLICY)
    assert decision.chosen is not None
    assert decision.chosen["method"] == "b"
    assert "best there on validation: accuracy 91.00 %" in decision.why


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy_difference": -0.0101}, "loses 1.01 points"),
        ({"macs_ratio": 1.99}, "1.99 times fewer MACs, 2 are asked for"),
        ({"speedup_b1": 0.98}, "0.98 times faster"),
        ({"speedup_b1": None}, "bench.batches"),
    ],
)
def test_each_shortfall_is_told(changes: dict[str, Any], words: str) -> None:
    (reason,) = shortfalls(row(**changes), POLICY)
    assert words in reason


def test_the_limits_themselves_pass() -> None:
    assert shortfalls(row(accuracy_difference=-0.01, macs_ratio=2.0, speedup_b1=1.0), POLICY) == []


def test_every_reason_counts() -> None:
    assert len(shortfalls(row(accuracy_difference=-0.5, macs_ratio=1.0, speedup_b1=0.5), POLICY)) == 3


def test_when_none_passes_each_is_told_why() -> None:
    decision = decide([row("a", macs_ratio=1.0), row("b", speedup_b1=0.1)], POLICY)
    assert decision.chosen is None
    assert decision.why == "None of the 2 compressed networks passes the policy."
    assert set(decision.rejected) == {"a-6-0", "b-6-0"}


ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([3.0, 6.0]), st.floats(0.5, 1.5), st.floats(0.8, 0.9)),
    max_size=6,
    unique_by=lambda entry: entry[:2],
)


@given(ROWS, st.randoms())
def test_the_order_of_the_table_does_not_matter(entries: list[Any], random: Any) -> None:
    rows = [row(method, budget, speedup_b1=speed, val_accuracy=val) for method, budget, speed, val in entries]
    shuffled = random.sample(rows, len(rows))
    assert decide(rows, POLICY) == decide(shuffled, POLICY)


@given(ROWS)
def test_every_network_is_chosen_passed_over_or_rejected(entries: list[Any]) -> None:
    rows = [row(method, budget, speedup_b1=speed, val_accuracy=val) for method, budget, speed, val in entries]
    decision = decide(rows, POLICY)
    assert len(rows) == (decision.chosen is not None) + len(decision.passed_over) + len(decision.rejected)
    assert decision.chosen is None or not shortfalls(decision.chosen, POLICY)
