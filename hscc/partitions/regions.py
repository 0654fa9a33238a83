"""Partitions of a layer's output positions into regions: grids, merged cells, superpixels, a given map, at random.

Regions are unions of the calibration's cells, so one calibration serves all of them. To add a partition, write a frozen
dataclass with ``tiles``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hscc.calibration.layers import Layer, Rectangle, cell_edges, cells_of
from hscc.calibration.moments import LayerMoments
from hscc.errors import CompressionError
from hscc.structures.base import Tiles

_PIXELS = 32  # per side of the image that superpixels are looked for in


class Partition(Protocol):
    """A frozen dataclass: equal ones make equal regions."""

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """Regions, each as rectangles in cells; None where the layer has too few cells or positions."""
        ...


@dataclass(frozen=True)
class Grid:
    """Rows by columns of rectangles."""

    rows: int
    columns: int

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """See `Partition`."""
        if self.rows > min(moments.cells, layer.grid[0]) or self.columns > min(moments.cells, layer.grid[1]):
            return None
        return [(tile,) for tile in grid_tiles(self.rows, self.columns, moments.cells)]


@dataclass(frozen=True)
class Merged:
    """Neighbouring cells whose statistics resemble each other share a region; they need not form rectangles.

    Cells are compared by the activity (root mean square) of each input channel and merged bottom up by average linkage
    as long as neighbours have at least this Bray-Curtis similarity, 1 - sum |a - b| / sum (a + b). Unlike a cosine it
    distinguishes a dark cell from a bright one with the same proportions. The black corners of a slice become one
    region of rank 0.

    Attributes
    ----------
    similarity : float
        0 to 1; 1 keeps every cell apart.
    """

    similarity: float

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """See `Partition`."""
        from scipy.spatial.distance import pdist, squareform  # here: they take a second to import
        from sklearn.cluster import AgglomerativeClustering
        from sklearn.feature_extraction.image import grid_to_graph

        occupied = moments.count.numpy() > 0
        if not occupied.all() or moments.cells == 1:
            return None
        merge = AgglomerativeClustering(
            None,
            metric="precomputed",
            linkage="average",
            distance_threshold=1 - self.similarity,
            connectivity=grid_to_graph(moments.cells, moments.cells),
        )
        distance = squareform(pdist(_activity(layer, moments), "braycurtis"))
        return _by_label(merge.fit_predict(distance), moments.cells)


@dataclass(frozen=True)
class Superpixels:
    """SLIC superpixels of the layer's mean input map (Achanta et al., 2012), as unions of cells.

    The channels' means over the calibration images make an image of cells by cells pixels, in units of their spread. So
    the regions can be no finer than the calibration's cells: at 4 x 4 they differ little from a grid.

    Attributes
    ----------
    regions : int
        How many to look for; SLIC may find fewer.
    compactness : float
        Weight of distance in space against that in channels.

    Raises
    ------
    CompressionError
        If scikit-image, an optional dependency, is not installed.
    """

    regions: int
    compactness: float = 0.1

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """See `Partition`."""
        try:
            from skimage.segmentation import slic
        except ImportError as error:
            raise CompressionError(
                'superpixels need scikit-image, which is not installed; run pip install "hscc[slic]".'
            ) from error
        cells = moments.cells
        if self.regions > cells * cells or not bool((moments.count > 0).all()):
            return None
        # SLIC places its seeds on a regular grid of pixels: one pixel per cell would leave few numbers of regions.
        side = -(-_PIXELS // cells)
        pixels = _mean_map(layer, moments).repeat(side, axis=0).repeat(side, axis=1)
        found = slic(
            pixels, n_segments=self.regions, compactness=self.compactness, channel_axis=-1, convert2lab=False,
            start_label=0,
        )  # fmt: skip
        squares = found.reshape(cells, side, cells, side).transpose(0, 2, 1, 3).reshape(cells * cells, -1)
        return _by_label(np.asarray([np.bincount(square).argmax() for square in squares]), cells)


@dataclass(frozen=True)
class CellMap:
    """Regions as a map of one's own, such as organs of an atlas or the classes of a segmentation.

    Attributes
    ----------
    labels : tuple of tuple of int
        Region of each cell, row by row; a square map. A layer with a multiple of its cells repeats each of them.
    """

    labels: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if not self.labels or any(len(row) != len(self.labels) for row in self.labels):
            sizes = sorted({len(row) for row in self.labels})
            raise CompressionError(
                f"a map of regions must be square; it has {len(self.labels)} rows of {sizes} cells."
            )  # fmt: skip

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """See `Partition`."""
        labels = np.asarray(self.labels, dtype=np.int64)
        factor, rest = divmod(moments.cells, len(labels))
        if rest or min(layer.grid) < moments.cells:
            return None
        return _by_label(labels.repeat(factor, axis=0).repeat(factor, axis=1).reshape(-1), moments.cells)


@dataclass(frozen=True)
class RandomCells:
    """Equal regions of cells drawn at random: the control that spatial regions must beat."""

    regions: int
    seed: int

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """See `Partition`."""
        cells = moments.cells
        if self.regions > cells * cells or min(layer.grid) < cells:
            return None
        order = np.random.default_rng(self.seed).permutation(cells * cells)
        labels = np.empty(cells * cells, dtype=np.int64)
        for label, part in enumerate(np.array_split(order, self.regions)):
            labels[part] = label
        return _by_label(labels, cells)


def grid_tiles(rows: int, columns: int, cells: int) -> list[Rectangle]:
    """Tiles, in cells, of a grid of regions, row by row.

    Where `rows` or `columns` does not divide `cells`, tiles differ by a cell: three regions of four cells are the two
    borders and the middle.
    """
    down, across = cell_edges(cells, rows), cell_edges(cells, columns)
    return [(down[i], down[i + 1], across[j], across[j + 1]) for i in range(rows) for j in range(columns)]


def region_cells(tiles: Sequence[Rectangle], cells: int) -> list[int]:
    """Indices of the fine cells of a region."""
    return [cell for tile in tiles for cell in cells_of(tile, cells)]


def _by_label(labels: npt.NDArray[np.int64], cells: int) -> list[Tiles]:
    # A region is written as runs of cells in a row, which the modules join row by row.
    regions: dict[int, list[Rectangle]] = {}
    for row, line in enumerate(labels.reshape(cells, cells)):
        ends = [*(np.flatnonzero(np.diff(line)) + 1), cells]
        for first, end in zip([0, *ends[:-1]], ends, strict=True):
            regions.setdefault(int(line[first]), []).append((row, row + 1, int(first), int(end)))
    return [tuple(tiles) for tiles in regions.values()]


def _mean_map(layer: Layer, moments: LayerMoments) -> npt.NDArray[np.float64]:
    """Mean of each input channel in each cell, shape (cells, cells, C_in), of unit spread over the cells."""
    totals = moments.total.reshape(len(moments.count), -1, layer.taps).sum(2).double().numpy()
    means = totals / moments.count.numpy()[:, None] / layer.taps
    spread = float(np.sqrt(means.var(axis=0).sum()))
    scaled: npt.NDArray[np.float64] = (means - means.mean(axis=0)) / max(spread, 1e-30)
    return scaled.reshape(moments.cells, moments.cells, -1)


def _activity(layer: Layer, moments: LayerMoments) -> npt.NDArray[np.float64]:
    by_channel = moments.energy().reshape(len(moments.count), -1, layer.taps).sum(2).double().numpy()
    mean = by_channel / moments.count.numpy()[:, None]
    # Without the constant, cells without any activity would not be similar even to each other.
    typical = max(float(mean.mean()), 1e-30)
    return np.asarray(np.sqrt(mean / typical + 1e-3))
