"""Regions cover every cell once; merging follows similarity."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer, box_size, cell_boxes, cell_edges, spans
from hscc.calibration.moments import LayerMoments
from hscc.errors import CompressionError
from hscc.methods.hscc import HSCC
from hscc.partitions.regions import CellMap, Grid, Merged, RandomCells, Superpixels, grid_tiles, region_cells
from hscc.search.space import SINGLE_CLUSTER
from hscc.structures.base import as_tuples


@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(6, 9))
def test_a_grid_covers_each_cell_once(parts: list[int], cells: int) -> None:
    tiles = grid_tiles(parts, cells)
    assert sorted(region_cells(tiles, cells)) == list(range(cells ** len(parts)))
    assert len(tiles) == math.prod(parts)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(1, 5))
def test_the_boxes_of_the_cells_cover_each_position_once(grid: list[int], cells: int) -> None:
    covered = np.zeros(grid, dtype=int)
    for box in cell_boxes(grid, cells):
        assert box_size(box) == covered[tuple(slice(*span) for span in spans(box))].size
        covered[tuple(slice(*span) for span in spans(box))] += 1
    assert (covered == 1).all()


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.integers(1, 3))
def test_a_grid_stands_for_layers_of_any_number_of_axes(parts: list[int], axes: int) -> None:
    grid = Grid(*parts)
    seen = grid.along(axes)
    assert seen == tuple(parts[axis] if axis < len(parts) else parts[-1] for axis in range(axes))
    assert grid.on(axes).along(axes) == seen
    assert grid == Grid(*parts, parts[-1])  # which says the same


def test_bands_and_tiles_are_the_same_regions_of_a_signal() -> None:
    space = HSCC().space(None, 0)  # type: ignore[arg-type]
    grids = [partition.parts for partition, grouping in space.pairs(_layer(12, 6, 1)) if grouping == SINGLE_CLUSTER]
    assert grids == [(1,), (2,), (4,)]
    assert len(space.pairs(_layer(12, 6, 3))) == len(space.pairs(_layer(12, 6, 2))) == 10


@given(st.integers(0, 300), st.integers(1, 16))
def test_cells_cover_each_position_once(positions: int, cells: int) -> None:
    edges = cell_edges(positions, cells)
    sizes = np.diff(edges)
    assert edges[0] == 0 and edges[-1] == positions
    assert sizes.min() >= 0 and sizes.max() - sizes.min() <= 1


def _layer(grid: int, inputs: int, axes: int = 2) -> Layer:
    ones, sizes = (1,) * axes, (grid,) * axes
    return Layer("a", "conv", inputs, 8, ones, ones, ones, (0, 0) * axes, "constant", sizes, sizes, True)


def _moments(energy: np.ndarray, axes: int = 2) -> LayerMoments:
    """Moments of 1 x 1 patches with the given energy (cells, channels)."""
    cells, channels = energy.shape
    second = torch.diag_embed(torch.from_numpy(energy))
    return LayerMoments(
        torch.ones(cells, dtype=torch.int64), torch.zeros(cells, channels), second, None, torch.zeros(cells, 8, 8), axes
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(1, 3), st.integers(0, 1000), st.floats(0.3, 1))
def test_irregular_regions_cover_each_cell_once(cells: int, axes: int, seed: int, similarity: float) -> None:
    moments = _moments(np.random.default_rng(seed).exponential(size=(cells**axes, 6)), axes)
    for partition in (Merged(similarity), RandomCells(2, seed)):
        regions = partition.tiles(_layer(12, 6, axes), moments)
        assert regions is not None
        assert sorted(cell for tiles in regions for cell in region_cells(tiles, cells)) == list(range(cells**axes))
        # Modules join tiles row by row, so a tile must lie in one row of cells.
        runs = [spans(tile)[:-1] for tiles in regions for tile in tiles]
        assert all(end == first + 1 for run in runs for first, end in run)


@pytest.mark.parametrize("axes", [1, 3])
def test_superpixels_of_signals_and_volumes(axes: int) -> None:
    pytest.importorskip("skimage")
    moments = _moments(np.ones((4**axes, 6)), axes)
    moments.total[len(moments.count) // 2 :] = 1.0  # a dark and a bright half
    regions = Superpixels(4, compactness=0.01).tiles(_layer(12, 6, axes), moments)
    assert regions is not None and len(regions) > 1
    half = len(moments.count) // 2
    covered = [region_cells(tiles, 4) for tiles in regions]
    assert sorted(cell for found in covered for cell in found) == list(range(2 * half))
    assert all(len({cell < half for cell in found}) == 1 for found in covered)  # none crosses the edge


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
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 1000))
def test_a_map_of_ones_own_is_followed_cell_by_cell(side: int, factor: int, axes: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (side,) * axes)
    cells = side * factor
    partition = CellMap(as_tuples(labels.tolist()))
    moments = _moments(np.ones((cells**axes, 6)), axes)
    regions = partition.tiles(_layer(12, 6, axes), moments)
    assert regions is not None and len(regions) == len(np.unique(labels))
    assert partition.tiles(_layer(12, 6, axes % 3 + 1), moments) is None
    fine = np.kron(labels, np.ones((factor,) * axes, dtype=int)).reshape(-1)
    covered = [region_cells(tiles, cells) for tiles in regions]
    assert sorted(cell for found in covered for cell in found) == list(range(cells**axes))
    assert all(len(set(fine[found])) == 1 for found in covered)


def test_a_map_must_be_square_and_fit_the_cells() -> None:
    with pytest.raises(CompressionError, match="must be square"):
        CellMap(((0, 1),))
    assert CellMap(((0, 1), (1, 1))).tiles(_layer(12, 6), _moments(np.ones((9, 6)))) is None
