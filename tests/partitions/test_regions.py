"""Regions cover every cell once; merging follows similarity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer, cell_edges
from hscc.calibration.moments import LayerMoments
from hscc.partitions.regions import Grid, Merged, RandomCells, grid_tiles, region_cells


@given(st.integers(1, 6), st.integers(1, 6), st.integers(6, 9))
def test_a_grid_covers_each_cell_once(rows: int, columns: int, cells: int) -> None:
    tiles = grid_tiles(rows, columns, cells)
    assert sorted(region_cells(tiles, cells)) == list(range(cells * cells))
    assert len(tiles) == rows * columns


@given(st.integers(0, 300), st.integers(1, 16))
def test_cells_cover_each_position_once(positions: int, cells: int) -> None:
    edges = cell_edges(positions, cells)
    sizes = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == positions
    assert sizes.min() >= 0 and sizes.max() - sizes.min() <= 1


def _layer(grid: int, inputs: int) -> Layer:
    pair = (1, 1)
    return Layer("a", "conv", inputs, 8, pair, pair, pair, (0, 0, 0, 0), "constant", (grid, grid), (grid, grid), True)


def _moments(energy: np.ndarray) -> LayerMoments:
    """Moments of 1 x 1 patches with the given energy (cells, channels)."""
    cells, channels = energy.shape
    second = torch.diag_embed(torch.from_numpy(energy))
    return LayerMoments(
        torch.ones(cells, dtype=torch.int64), torch.zeros(cells, channels), second, None, torch.zeros(cells, 8, 8)
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(0, 1000), st.floats(0.3, 1))
def test_irregular_regions_cover_each_cell_once(cells: int, seed: int, similarity: float) -> None:
    moments = _moments(np.random.default_rng(seed).exponential(size=(cells * cells, 6)))
    for partition in (Merged(similarity), RandomCells(3, seed)):
        regions = partition.tiles(_layer(12, 6), moments)
        assert regions is not None
        assert sorted(cell for tiles in regions for cell in region_cells(tiles, cells)) == list(range(cells * cells))
        # Modules join tiles row by row, so a tile must lie in one row of cells.
        assert all(tile[1] == tile[0] + 1 for tiles in regions for tile in tiles)


def test_black_corners_are_merged_apart_from_the_rest() -> None:
    energy = np.ones((16, 6)) * np.linspace(1, 2, 6)
    corner = [0, 1, 4, 5]
    energy[corner] = 0
    regions = Merged(0.9).tiles(_layer(12, 6), _moments(energy))
    assert regions is not None
    cells = [sorted(region_cells(tiles, 4)) for tiles in regions]
    assert sorted(cells) == sorted([corner, [cell for cell in range(16) if cell not in corner]])


def test_similarity_one_keeps_unlike_cells_apart() -> None:
    energy = np.random.default_rng(0).exponential(size=(16, 6))
    regions = Merged(1.0).tiles(_layer(12, 6), _moments(energy))
    assert regions is not None and len(regions) == 16


@pytest.mark.parametrize("partition", [Grid(5, 1), Grid(1, 5), RandomCells(17, 0)])
def test_a_layer_with_too_few_cells_has_no_such_regions(partition) -> None:
    assert partition.tiles(_layer(12, 6), _moments(np.ones((16, 6)))) is None


def test_a_layer_with_fewer_positions_than_regions_has_none(calibration: Calibration) -> None:
    moments = calibration.moments[calibration.layers[0].name]
    assert Grid(4, 4).tiles(_layer(3, 3), moments) is None
