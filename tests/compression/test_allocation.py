"""The Lagrangian: never over budget, and as good as exhaustive search where that is possible."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.compression.allocation import Candidate, allocate, make_cluster
from hscc.errors import BudgetError

values = st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=6).map(
    lambda found: np.sort(np.asarray(found))[::-1]
)
cluster = st.builds(make_cluster, values, st.integers(1, 9), st.integers(1, 3))
layer = st.lists(st.lists(cluster, min_size=1, max_size=3).map(lambda c: Candidate(tuple(c))), min_size=1, max_size=3)


def _kept(layers, choices):
    """Yield (cluster, steps kept) of all layers that are not dense."""
    for candidates, choice in zip(layers, choices, strict=True):
        if choice.candidate >= 0:
            yield from zip(candidates[choice.candidate].clusters, choice.steps, strict=True)


def _cost(layers, dense, choices) -> int:
    left = sum(cost for cost, choice in zip(dense, choices, strict=True) if choice.candidate < 0)
    return left + sum(int(found.cost[:steps].sum()) for found, steps in _kept(layers, choices))


def _loss(layers, choices) -> float:
    return sum(float(found.gains[steps:].sum()) for found, steps in _kept(layers, choices))


def _cheapest(candidates, dense: int) -> int:
    return min([dense, *(min(int(found.cost[0]) for found in candidate.clusters) for candidate in candidates)])


@settings(max_examples=150, deadline=None)
@given(st.lists(layer, min_size=1, max_size=4), st.data())
def test_never_over_budget(layers, data) -> None:
    dense = [data.draw(st.integers(5, 120)) for _ in layers]
    budget = data.draw(st.integers(1, sum(dense)))
    try:
        choices = allocate(layers, dense, budget)
    except BudgetError:
        assert sum(_cheapest(candidates, cost) for candidates, cost in zip(layers, dense, strict=True)) > budget
        return
    assert _cost(layers, dense, choices) <= budget


@settings(max_examples=60, deadline=None)
@given(st.lists(values, min_size=2, max_size=3), st.integers(4, 40))
def test_equal_costs_are_spent_as_exhaustive_search_would(spectra, budget: int) -> None:
    layers = [[Candidate((make_cluster(v, 2, 1),))] for v in spectra]
    dense = [1000] * len(layers)
    if 2 * len(layers) > budget:
        with pytest.raises(BudgetError):
            allocate(layers, dense, budget)
        return
    best = min(
        sum(float(v[k:].sum()) for v, k in zip(spectra, ranks, strict=True))
        for ranks in itertools.product(*(range(1, len(v) + 1) for v in spectra))
        if 2 * sum(ranks) <= budget
    )
    assert _loss(layers, allocate(layers, dense, budget)) == pytest.approx(best, abs=1e-9)


def test_dense_is_kept_where_everything_fits() -> None:
    layers = [[Candidate((make_cluster(np.array([3.0, 2.0, 1.0]), 10, 1),))]]
    assert allocate(layers, [15], 15)[0].candidate == -1
