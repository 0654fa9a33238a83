"""Regions tile the grid; clusters partition the channels and find what fires together."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.calibration.cells import cell_edges
from hscc.compression.partition import cluster_channels, random_groups, region_tiles, tile_cells


@given(st.integers(1, 6), st.integers(1, 6), st.integers(6, 9))
def test_regions_cover_each_cell_once(rows: int, columns: int, cells: int) -> None:
    tiles = region_tiles(rows, columns, cells)
    covered = [cell for tile in tiles for cell in tile_cells(tile, cells)]
    assert sorted(covered) == list(range(cells * cells))
    assert len(tiles) == rows * columns


@given(st.integers(0, 300), st.integers(1, 16))
def test_cells_cover_each_position_once(positions: int, cells: int) -> None:
    edges = cell_edges(positions, cells)
    sizes = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == positions
    assert sizes.min() >= 0 and sizes.max() - sizes.min() <= 1


def _correlated(groups: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.repeat(np.arange(groups), size))
    signal = rng.normal(size=(groups, 400))[label] + 0.3 * rng.normal(size=(groups * size, 400))
    return np.corrcoef(signal), label


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 5), st.integers(3, 8), st.integers(0, 100))
def test_channels_that_fire_together_are_found(groups: int, size: int, seed: int) -> None:
    correlation, label = _correlated(groups, size, seed)
    found = cluster_channels(correlation, groups, seed=0)
    assert {frozenset(np.flatnonzero(label == g)) for g in range(groups)} == {frozenset(group) for group in found}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_relabelling_channels_changes_nothing(seed: int) -> None:
    correlation, _ = _correlated(4, 6, 0)
    order = np.random.default_rng(seed).permutation(len(correlation))
    found = cluster_channels(correlation[order][:, order], 4, seed=0)
    renamed = {frozenset(int(order[c]) for c in group) for group in found}
    assert renamed == {frozenset(group) for group in cluster_channels(correlation, 4, seed=0)}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 100), st.booleans())
def test_clusters_partition_the_channels(channels: int, clusters: int, seed: int, balanced: bool) -> None:
    correlation = np.corrcoef(np.random.default_rng(seed).normal(size=(channels, 50))).reshape(channels, channels)
    found = cluster_channels(correlation, clusters, seed, balanced)
    assert sorted(c for group in found for c in group) == list(range(channels))
    sizes = [len(group) for group in found]
    if balanced:
        assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 100))
def test_random_groups_partition_the_channels(channels: int, clusters: int, seed: int) -> None:
    found = random_groups(channels, clusters, seed)
    assert sorted(c for group in found for c in group) == list(range(channels))
