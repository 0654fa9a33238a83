"""Rows and columns that regions of a layer put out and read."""

from __future__ import annotations

from itertools import pairwise

from hscc.calibration.layers import Layer, Rectangle, reach


def even_size(layer: Layer, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a tile where all are equal and cover the map."""
    rows, columns = (-(-positions // count) for positions, count in zip(layer.grid, grid, strict=True))
    return rows, columns


def tile_rows(layer: Layer, grid: tuple[int, int]) -> list[list[Rectangle]]:
    """Output positions of each region, a list a row of regions."""
    rows, columns = ([round(i * n / g) for i in range(g + 1)] for n, g in zip(layer.grid, grid, strict=True))
    return [[(*row, *column) for column in pairwise(columns)] for row in pairwise(rows)]


def tiles(layer: Layer, grid: tuple[int, int]) -> list[Rectangle]:
    """Output positions of each region."""
    return [tile for row in tile_rows(layer, grid) for tile in row]


def input_windows(
    layer: Layer, tile: Rectangle, padded: bool
) -> tuple[list[tuple[int, int]], tuple[int, int, int, int]]:
    """Rows and columns of input that a tile sees, and the zeros around them: top, left, bottom, right."""
    left, _, top, _ = layer.padding
    windows, zeros = [], []
    for axis, before in enumerate((top, left)):
        first, end = tile[2 * axis], tile[2 * axis + 1]
        start = first * layer.stride[axis]
        stop = (end - 1) * layer.stride[axis] + reach(layer)[axis]
        if padded:
            windows.append((start, stop))
            zeros.append((0, 0))
            continue
        size = layer.input_grid[axis]
        windows.append((max(start - before, 0), min(stop - before, size)))
        zeros.append((max(before - start, 0), max(stop - before - size, 0)))
    return windows, (zeros[0][0], zeros[1][0], zeros[0][1], zeros[1][1])
