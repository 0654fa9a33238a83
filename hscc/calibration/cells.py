"""The fine grid of cells on a layer's output positions, and the tiles that regions make of them."""

from __future__ import annotations

from hscc.calibration.layers import Rectangle


def cell_edges(positions: int, cells: int) -> list[int]:
    """Where `cells` nearly equal cells begin and end along one axis.

    Returns
    -------
    list of int
        ``cells + 1`` edges from 0 to `positions`; with fewer positions than cells some cells are empty.
    """
    return [(index * positions + cells // 2) // cells for index in range(cells + 1)]


def cell_rectangles(grid: tuple[int, int], cells: int) -> list[Rectangle]:
    """Rectangles of output positions of all ``cells * cells`` cells, row by row."""
    rows, columns = (cell_edges(positions, cells) for positions in grid)
    return [
        (rows[i], rows[i + 1], columns[j], columns[j + 1]) for i in range(cells) for j in range(cells)
    ]  # fmt: skip


def tile_rectangle(tile: Rectangle, grid: tuple[int, int], cells: int) -> Rectangle:
    """Output positions of a tile that is given in cells."""
    rows, columns = (cell_edges(positions, cells) for positions in grid)
    return rows[tile[0]], rows[tile[1]], columns[tile[2]], columns[tile[3]]


def area(tile: Rectangle) -> int:
    """Positions (or cells) in a rectangle."""
    return (tile[1] - tile[0]) * (tile[3] - tile[2])


def cells_of(tile: Rectangle, cells: int) -> list[int]:
    """Indices of the cells of a tile, in a grid of `cells` a side."""
    return [row * cells + column for row in range(tile[0], tile[1]) for column in range(tile[2], tile[3])]
