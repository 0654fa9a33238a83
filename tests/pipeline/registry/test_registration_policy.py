from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hscc.pipeline.registry.registration_policy import decide
from hscc.pipeline.statistics.schema import Estimate, NetworkRow
from tests.pipeline.rows import results, row

LIMITS = ("accuracy", "MACs", "batch 1")


def shortfalls(**changes: object) -> list[str]:
    network = row(**changes)
    return results(network).shortfalls(network)


def test_a_score_that_is_not_defined_is_no_pass() -> None:
    network = row()
    assert network.against_dense is not None
    compared = network.against_dense.model_copy(update={"scores": {"accuracy": Estimate(value=None)}})
    undefined = network.model_copy(update={"against_dense": compared})
    assert any("not known" in reason for reason in results(undefined).shortfalls(undefined))


def test_the_fastest_that_passes_is_registered() -> None:
    found = decide(
        results(
            row("a", macs=3.0, speedups={1: 3.0, 16: 2.0}),
            row("b", macs=6.0, speedups={1: 2.5, 16: 2.2}, model_sha256="ab"),
            row("c", macs=9.0, speedups={1: 0.9, 16: 9.0}),
        )
    )
    assert (found.registered, found.model_sha256) == ("b-macs6-seed0", "ab")
    assert found.passed_over == ("a-macs3-seed0",)
    assert list(found.rejected) == ["c-macs9-seed0"]
    assert "2.20 times faster" in found.why


def test_validation_decides_between_equals_and_the_test_split_does_not() -> None:
    found = decide(results(row("a", difference=(0.05, 0.0, 0.1)), row("b", val_kl=0.05)))
    assert found.registered == "b-macs6-seed0"


@pytest.mark.parametrize(
    ("changes", "limit", "figure"),
    [
        ({"difference": (-0.0101, -0.03, 0.01)}, "accuracy", "1.01"),
        ({"macs_ratio": 1.99}, "MACs", "1.99"),
        ({"speedups": {1: 0.98}}, "batch 1", "0.98"),
        ({"speedups": {}}, "batch 1", "bench.batches"),
    ],
)
def test_each_shortfall_is_named_with_its_figure(changes: dict[str, object], limit: str, figure: str) -> None:
    (reason,) = shortfalls(**changes)
    assert limit in reason and figure in reason


def test_the_limits_themselves_pass() -> None:
    assert shortfalls(difference=(-0.01, -0.02, 0.0), macs_ratio=2.0, speedups={1: 1.0}) == []


def test_every_reason_counts() -> None:
    reasons = shortfalls(difference=(-0.5, -0.6, -0.4), macs_ratio=1.0, speedups={1: 0.5})
    assert [limit for limit, reason in zip(LIMITS, reasons, strict=True) if limit in reason] == list(LIMITS)


def test_when_none_passes_each_has_its_reasons_and_the_nearest_is_spoken_of() -> None:
    table = results(row("a", macs_ratio=1.0, val_kl=0.3), row("b", speedups={1: 0.1}, val_kl=0.2))
    found = decide(table)
    assert found.registered is found.model_sha256 is None
    assert set(found.rejected) == {"a-macs6-seed0", "b-macs6-seed0"}
    assert table.chosen().method == "b"


def test_controls_and_further_seeds_are_no_candidates() -> None:
    found = decide(results(row("a", role="control"), row("b", seed=1), row("b", macs_ratio=1.0)))
    assert found.registered is None
    assert list(found.rejected) == ["b-macs6-seed0"]


ROWS = st.lists(
    st.builds(
        lambda name, speed, kl: row(name, speedups={1: speed}, val_kl=kl),
        st.sampled_from("abcdef"),
        st.sampled_from([0.5, 1.5, 2.5]),
        st.sampled_from([0.1, 0.2]),
    ),
    min_size=1,
    unique_by=lambda made: made.method,
)


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows: list[NetworkRow], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(results(*shuffled)) == decide(results(*rows))


@given(ROWS)
def test_every_candidate_is_registered_passed_over_or_rejected(rows: list[NetworkRow]) -> None:
    table = results(*rows)
    found = decide(table)
    assert len(rows) == (found.registered is not None) + len(found.passed_over) + len(found.rejected)
    if found.registered is not None:
        assert found.registered == table.chosen().name
        assert table.shortfalls(table.chosen()) == []
