"""The Lagrangian: never over budget, and as good as exhaustive search where that is possible."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.search.allocation import (
    Candidate,
    LayerOptions,
    UnreachableError,
    allocate,
    cost_of,
    loss_of,
    make_cluster,
)

values = st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=6).map(
    lambda found: np.sort(np.asarray(found))[::-1]
)


def _layers(resources: int) -> st.SearchStrategy[list[LayerOptions]]:
    cost = st.lists(st.integers(1, 9), min_size=resources, max_size=resources)
    cluster = st.builds(make_cluster, values, cost, st.integers(1, 3))
    fixed = st.lists(st.integers(0, 5), min_size=resources, max_size=resources)
    candidate = st.builds(
        lambda clusters, base: Candidate(tuple(clusters), np.asarray(base, dtype=float)),
        st.lists(cluster, min_size=1, max_size=3),
        fixed,
    )
    dense = st.lists(st.integers(5, 120), min_size=resources, max_size=resources)
    layer = st.builds(
        lambda candidates, whole: LayerOptions(tuple(candidates), np.asarray(whole, dtype=float)),
        st.lists(candidate, min_size=1, max_size=3),
        dense,
    )
    return st.lists(layer, min_size=1, max_size=4)


def _one(values: np.ndarray, dense: float) -> LayerOptions:
    return LayerOptions((Candidate((make_cluster(values, [2], 1),), np.zeros(1)),), np.asarray([dense]))


def _cheapest(layer: LayerOptions) -> np.ndarray:
    first = [c.fixed + min(k.cost * k.ranks[0] for k in c.clusters) for c in layer.candidates]
    return np.min([layer.dense, *first], axis=0)


@settings(max_examples=150, deadline=None)
@given(_layers(1), st.data())
def test_one_budget_is_never_exceeded_and_met_whenever_it_can_be(layers, data) -> None:
    limit = data.draw(st.integers(1, int(sum(layer.dense[0] for layer in layers))))
    try:
        choices = allocate(layers, [limit])
    except UnreachableError as error:
        assert error.smallest[0] > limit
        assert error.smallest == pytest.approx(sum(_cheapest(layer) for layer in layers))
        return
    assert cost_of(layers, choices)[0] <= limit


@settings(max_examples=60, deadline=None)
@given(_layers(2), st.data())
def test_two_budgets_are_never_exceeded(layers, data) -> None:
    dense = sum(layer.dense for layer in layers)
    limits = [data.draw(st.integers(1, int(total))) for total in dense]
    try:
        choices = allocate(layers, limits)
    except UnreachableError:
        return
    assert (cost_of(layers, choices) <= limits).all()


@settings(max_examples=30, deadline=None)
@given(_layers(2), st.data())
def test_a_budget_that_does_not_bind_changes_nothing(layers, data) -> None:
    limit = data.draw(st.integers(1, int(sum(layer.dense[0] for layer in layers))))
    alone = [
        LayerOptions(
            tuple(
                Candidate(tuple(make_cluster(c.saved, c.cost[:1], 1) for c in candidate.clusters), candidate.fixed[:1])
                for candidate in layer.candidates
            ),
            layer.dense[:1],
        )
        for layer in layers
    ]
    both = [
        LayerOptions(
            tuple(
                Candidate(tuple(make_cluster(c.saved, c.cost, 1) for c in candidate.clusters), candidate.fixed)
                for candidate in layer.candidates
            ),
            layer.dense,
        )
        for layer in layers
    ]
    try:
        expected = loss_of(alone, allocate(alone, [limit]))
    except UnreachableError:
        return
    assert loss_of(both, allocate(both, [limit, 1e9])) <= expected * 1.25 + 1e-9


@settings(max_examples=60, deadline=None)
@given(st.lists(values, min_size=2, max_size=3), st.integers(4, 40))
def test_equal_costs_are_spent_as_exhaustive_search_would(spectra, budget: int) -> None:
    layers = [_one(v, 1000) for v in spectra]
    if 2 * len(layers) > budget:
        with pytest.raises(UnreachableError):
            allocate(layers, [budget])
        return
    best = min(
        sum(float(v[k:].sum()) for v, k in zip(spectra, ranks, strict=True))
        for ranks in itertools.product(*(range(1, len(v) + 1) for v in spectra))
        if 2 * sum(ranks) <= budget
    )
    assert loss_of(layers, allocate(layers, [budget])) == pytest.approx(best, abs=1e-9)


def test_dense_is_kept_where_everything_fits() -> None:
    layers = [
        LayerOptions((Candidate((make_cluster(np.array([3.0, 2.0, 1.0]), [10], 1),), np.zeros(1)),), np.array([15.0]))
    ]
    assert allocate(layers, [15])[0].candidate == -1


def test_the_scarcer_resource_decides_the_structure() -> None:
    # The first structure is cheap in the first resource, the second in the second; both keep the same.
    cheap_first = Candidate((make_cluster(np.array([5.0, 4.0]), [1, 10], 1),), np.zeros(2))
    cheap_second = Candidate((make_cluster(np.array([5.0, 4.0]), [10, 1], 1),), np.zeros(2))
    layer = LayerOptions((cheap_first, cheap_second), np.array([100.0, 100.0]))
    assert allocate([layer], [2, 50])[0].candidate == 0
    assert allocate([layer], [50, 2])[0].candidate == 1


@pytest.mark.filterwarnings("error")
def test_a_free_step_is_always_taken() -> None:
    # A latency table may find that further ranks of a structure take no time; some may save nothing either.
    free = make_cluster(np.array([3.0, 2.0, 1.0, 0.0]), [0.0], 1)
    paid = make_cluster(np.array([4.0, 3.0, 2.0]), [1.0], 1)
    layers = [
        LayerOptions((Candidate((cluster,), np.ones(1)),), np.array([10.0])) for cluster in (free, paid)
    ]  # fmt: skip
    choices = allocate(layers, [4.0])
    assert [choice.steps for choice in choices] == [(4,), (2,)]


@pytest.mark.filterwarnings("error")
@settings(max_examples=60, deadline=None)
@given(st.lists(values, min_size=1, max_size=3), st.sampled_from([0.0, 5e-324, 1e-310, 1e-30]), st.integers(2, 30))
def test_steps_that_cost_next_to_nothing_are_all_taken(spectra, price: float, budget: int) -> None:
    cheap = LayerOptions(
        (Candidate(tuple(make_cluster(v, [price], 1) for v in spectra), np.zeros(1)),), np.asarray([1000.0])
    )
    paid = _one(spectra[0], 1000)
    chosen, _ = allocate([cheap, paid], [budget])
    assert chosen.steps == tuple(map(len, spectra))
