"""Regions cover every cell once; merging follows similarity."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer, cell_edges
from hscc.calibration.moments import LayerMoments
from hscc.errors import CompressionError
from hscc.partitions.regions import CellMap, Grid, Merged, RandomCells, Superpixels, grid_tiles, region_cells


@given(st.integers(1, 6), st.integers(1, 6), st.integers(6, 9))
def test_a_grid_covers_each_cell_once(rows: int, columns: int, cells: int) -> None:
    tiles = grid_tiles((rows, columns), cells)
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


def _two_halves(cells: int) -> LayerMoments:
    """A dark left and a bright right half, the same in every row."""
    bright = np.tile(np.repeat([0.1, 1.0], cells // 2), cells)
    moments = _moments(np.ones((cells * cells, 6)))
    moments.total[:] = torch.from_numpy(np.outer(bright, np.ones(6)))
    return moments


def test_superpixels_follow_the_mean_map() -> None:
    pytest.importorskip("skimage")
    moments = _two_halves(8)
    regions = Superpixels(4, compactness=0.01).tiles(_layer(16, 6), moments)
    assert regions is not None and len(regions) > 1
    covered = [region_cells(tiles, 8) for tiles in regions]
    assert sorted(cell for found in covered for cell in found) == list(range(64))
    assert all(len({cell % 8 < 4 for cell in found}) == 1 for found in covered)  # none crosses the edge


def test_superpixels_without_scikit_image_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(CompressionError, match=r"hscc\[slic\]"):
        Superpixels(4).tiles(_layer(16, 6), _two_halves(4))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1000))
def test_a_map_of_ones_own_is_followed_cell_by_cell(side: int, factor: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (side, side))
    cells = side * factor
    partition = CellMap(tuple(tuple(map(int, row)) for row in labels))
    regions = partition.tiles(_layer(12, 6), _moments(np.ones((cells * cells, 6))))
    assert regions is not None and len(regions) == len(np.unique(labels))
    fine = labels.repeat(factor, axis=0).repeat(factor, axis=1).reshape(-1)
    covered = [region_cells(tiles, cells) for tiles in regions]
    assert sorted(cell for found in covered for cell in found) == list(range(cells * cells))
    assert all(len(set(fine[found])) == 1 for found in covered)


def test_a_map_must_be_square_and_fit_the_cells() -> None:
    with pytest.raises(CompressionError, match="must be square"):
        CellMap(((0, 1),))
    assert CellMap(((0, 1), (1, 1))).tiles(_layer(12, 6), _moments(np.ones((9, 6)))) is None
