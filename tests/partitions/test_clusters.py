"""Clusters partition the channels and find what fires together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from hscc.partitions.clusters import (
    CoActivation,
    ContiguousGroups,
    GlobalCoActivation,
    RandomGroups,
    SimilarChannels,
    assign_by_size,
    cluster_channels,
)


def _correlated(groups: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(groups), size))
    signal = rng.normal(size=(groups, 400))[label] + 0.3 * rng.normal(size=(groups * size, 400))
    return np.corrcoef(signal), label


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(3, 8), st.integers(0, 100))
def test_channels_that_fire_together_are_found(groups: int, size: int, seed: int) -> None:
    correlation, label = _correlated(groups, size, seed)
    truth = {frozenset(np.flatnonzero(label == g)) for g in range(groups)}
    assert {frozenset(group) for group in cluster_channels(correlation, groups, seed=0)} == truth
    assert {frozenset(group) for group in SimilarChannels(0.5).groups(correlation, lambda: correlation)} == truth


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_relabelling_channels_changes_nothing(seed: int) -> None:
    correlation, _ = _correlated(4, 6, 0)
    order = np.random.default_rng(seed).permutation(len(correlation))
    found = cluster_channels(correlation[order][:, order], 4, seed=0)
    renamed = {frozenset(int(order[c]) for c in group) for group in found}
    assert renamed == {frozenset(group) for group in cluster_channels(correlation, 4, seed=0)}


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 100))
def test_every_grouping_partitions_the_channels(channels: int, clusters: int, seed: int) -> None:
    correlation = np.corrcoef(np.random.default_rng(seed).normal(size=(channels, 50))).reshape(channels, channels)
    balanced = [
        CoActivation(clusters, seed),
        GlobalCoActivation(clusters, seed),
        RandomGroups(clusters, seed),
        ContiguousGroups(clusters),
    ]
    for grouping in [*balanced, SimilarChannels(0.3)]:
        found = grouping.groups(correlation, lambda: correlation)
        assert sorted(c for group in found for c in group) == list(range(channels))
        if grouping in balanced:
            sizes = [len(group) for group in found]
            assert max(sizes) - min(sizes) <= 1


def test_a_higher_threshold_makes_more_clusters() -> None:
    correlation, _ = _correlated(3, 8, 1)
    counts = [len(SimilarChannels(t).groups(correlation, lambda: correlation)) for t in (0.0, 0.5, 1.0)]
    assert counts == sorted(counts)
    assert counts[0] == 1 and counts[-1] == 24


def test_global_clusters_ignore_the_region() -> None:
    here, everywhere = _correlated(4, 6, 0)[0], _correlated(4, 6, 5)[0]
    assert GlobalCoActivation(4, 0).groups(here, lambda: everywhere) == cluster_channels(everywhere, 4, 0)
    assert CoActivation(4, 0).groups(here, lambda: pytest.fail("not needed")) == cluster_channels(here, 4, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.booleans(), st.integers(0, 10**6))
def test_sizes_are_kept_at_the_least_cost(points: int, centres: int, ties: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    cost = random.integers(0, 3, (points, centres)).astype(float) if ties else random.normal(size=(points, centres))
    sizes = random.multinomial(points, random.dirichlet(np.ones(centres)))  # also of none
    labels = assign_by_size(cost, sizes)
    assert np.bincount(labels, minlength=centres).tolist() == sizes.tolist()
    columns = np.repeat(np.arange(centres), sizes)
    rows, chosen = linear_sum_assignment(cost[:, columns])
    least = cost[:, columns][rows, chosen].sum()
    assert cost[np.arange(points), labels].sum() == pytest.approx(least, abs=1e-9)
