"""The Lagrangian: never over budget, nothing useful left unspent, as good as exhaustive search where that is possible."""

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


def _cost(layers, dense, choices) -> int:
    return sum(
        d if c.candidate < 0 else sum(int(k.cost[:n].sum()) for k, n in zip(o[c.candidate].clusters, c.steps, strict=True))
        for o, d, c in zip(layers, dense, choices, strict=True)
    )


def _loss(layers, choices) -> float:
    return sum(
        0.0 if c.candidate < 0 else sum(float(k.gains[n:].sum()) for k, n in zip(o[c.candidate].clusters, c.steps, strict=True))
        for o, c in zip(layers, choices, strict=True)
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(layer, min_size=1, max_size=4), st.data())
def test_never_over_budget(layers, data) -> None:
    dense = [data.draw(st.integers(5, 120)) for _ in layers]
    budget = data.draw(st.integers(1, sum(dense)))
    try:
        choices = allocate(layers, dense, budget)
    except BudgetError:
        cheapest = [min([d, *(min(int(k.cost[0]) for k in c.clusters) for c in o)]) for o, d in zip(layers, dense, strict=True)]
        assert sum(cheapest) > budget
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
