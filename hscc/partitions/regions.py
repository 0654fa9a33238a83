"""Partitions of a layer's output positions into regions: grids, merged cells, superpixels, a given map, at random.

Regions are unions of the calibration's cells, so one calibration serves all of them. To add a partition, write a frozen
dataclass with ``tiles``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hscc.calibration.layers import Box, Layer, boxes_between, cell_edges, cells_of
from hscc.calibration.moments import LayerMoments
from hscc.errors import CompressionError
from hscc.structures.base import Tiles

_PIXELS = 32  # per side of the image that superpixels are looked for in


class Partition(Protocol):
    """A frozen dataclass: equal ones make equal regions."""

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """Regions, each as boxes in cells; None where the layer has too few cells or positions."""
        ...


@dataclass(frozen=True, init=False)
class Grid:
    """Boxes: each axis in so many parts.

    One grid serves layers of any number of dimensions: the last number stands for all further axes, and numbers of axes
    that a layer does not have are left out. ``Grid(2, 2)`` halves every axis, ``Grid(4, 1)`` makes bands of the first.

    Attributes
    ----------
    parts : tuple of int
        Of the first axis, of the second (rows and columns in two dimensions), and so on.
    """

    parts: tuple[int, ...]

    def __init__(self, *parts: int) -> None:
        shortest = len(parts)
        while shortest > 1 and parts[shortest - 1] == parts[shortest - 2]:  # so that equal grids are equal
            shortest -= 1
        object.__setattr__(self, "parts", parts[:shortest])

    def along(self, axes: int) -> tuple[int, ...]:
        """Parts of each of some axes."""
        return (*self.parts[:axes], *self.parts[-1:] * (axes - len(self.parts)))

    def on(self, axes: int) -> Grid:
        """Return the grid as layers of so many axes see it; those that see the same are equal."""
        return Grid(*self.along(axes))

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """See `Partition`."""
        parts = self.along(layer.axes)
        if any(number > min(moments.cells, size) for number, size in zip(parts, layer.grid, strict=True)):
            return None
        return [(tile,) for tile in grid_tiles(parts, moments.cells)]


@dataclass(frozen=True)
class Merged:
    """Neighbouring cells whose statistics resemble each other share a region; they need not form boxes.

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
            connectivity=grid_to_graph(*[moments.cells] * layer.axes, *[1] * (2 - layer.axes)),
        )
        distance = squareform(pdist(_activity(layer, moments), "braycurtis"))
        return _by_label(merge.fit_predict(distance), moments)


@dataclass(frozen=True)
class Superpixels:
    """SLIC superpixels of the layer's mean input map (Achanta et al., 2012), as unions of cells.

    The channels' means over the calibration images make an image (a volume, in three dimensions) of one pixel per cell,
    in units of their spread. So the regions can be no finer than the calibration's cells: at 4 x 4 they differ little
    from a grid.

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
        cells, axes = moments.cells, layer.axes
        if self.regions > len(moments.count) or not bool((moments.count > 0).all()):
            return None
        # SLIC places its seeds on a regular grid of pixels: one pixel per cell would leave few numbers of regions.
        side = -(-_PIXELS // cells)
        pixels = _repeated(_mean_map(layer, moments), side, axes)
        found = slic(
            pixels if axes > 1 else pixels[None], n_segments=self.regions, compactness=self.compactness,
            channel_axis=-1, convert2lab=False, start_label=0,
        )  # fmt: skip
        order = (*range(0, 2 * axes, 2), *range(1, 2 * axes, 2))
        blocks = found.reshape((cells, side) * axes).transpose(order).reshape(len(moments.count), -1)
        return _by_label(np.asarray([np.bincount(block).argmax() for block in blocks]), moments)


@dataclass(frozen=True)
class CellMap:
    """Regions as a map of one's own, such as organs of an atlas or the classes of a segmentation.

    Attributes
    ----------
    labels : nested tuple of int
        Region of each cell, row by row: a square map, or a cube for layers of three dimensions. A layer with a multiple
        of its cells repeats each of them; one of another number of dimensions has no such regions.
    """

    labels: tuple[Any, ...]

    def __post_init__(self) -> None:
        try:
            shape = np.asarray(self.labels, dtype=np.int64).shape
        except ValueError:  # rows of several lengths
            shape = ()
        if not shape or 0 in shape or len(set(shape)) > 1:
            found = " x ".join(map(str, shape)) or "of rows that differ in length"
            raise CompressionError(f"a map of regions must be square; it is {found}.")

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """See `Partition`."""
        labels = np.asarray(self.labels, dtype=np.int64)
        factor, rest = divmod(moments.cells, len(labels))
        if rest or labels.ndim != layer.axes or min(layer.grid) < moments.cells:
            return None
        return _by_label(_repeated(labels, factor, layer.axes).reshape(-1), moments)


@dataclass(frozen=True)
class RandomCells:
    """Equal regions of cells drawn at random: the control that spatial regions must beat."""

    regions: int
    seed: int

    def tiles(self, layer: Layer, moments: LayerMoments) -> list[Tiles] | None:
        """See `Partition`."""
        cells = len(moments.count)
        if self.regions > cells or min(layer.grid) < moments.cells:
            return None
        order = np.random.default_rng(self.seed).permutation(cells)
        labels = np.empty(cells, dtype=np.int64)
        for label, part in enumerate(np.array_split(order, self.regions)):
            labels[part] = label
        return _by_label(labels, moments)


def grid_tiles(parts: Sequence[int], cells: int) -> list[Box]:
    """Tiles, in cells, of a grid of regions, row by row.

    Where the number of `parts` of an axis does not divide `cells`, tiles differ by a cell: three regions of four cells
    are the two borders and the middle.
    """
    return boxes_between([cell_edges(cells, number) for number in parts])


def region_cells(tiles: Sequence[Box], cells: int) -> list[int]:
    """Indices of the fine cells of a region."""
    return [cell for tile in tiles for cell in cells_of(tile, cells)]


def _by_label(labels: npt.NDArray[np.int64], moments: LayerMoments) -> list[Tiles]:
    # A region is written as runs of cells along the last axis, which the modules join row by row.
    regions: dict[int, list[Box]] = {}
    cells, before = moments.cells, moments.axes - 1
    for row, line in zip(np.ndindex(*(cells,) * before), labels.reshape(-1, cells), strict=True):
        at_row = tuple(edge for place in row for edge in (place, place + 1))
        ends = [*(np.flatnonzero(np.diff(line)) + 1), cells]
        for first, end in zip([0, *ends[:-1]], ends, strict=True):
            regions.setdefault(int(line[first]), []).append((*at_row, int(first), int(end)))
    return [tuple(tiles) for tiles in regions.values()]


def _repeated(cells: npt.NDArray[Any], times: int, axes: int) -> npt.NDArray[Any]:
    """Repeat each element along each of the first axes."""
    for axis in range(axes):
        cells = cells.repeat(times, axis=axis)
    return cells


def _mean_map(layer: Layer, moments: LayerMoments) -> npt.NDArray[np.float64]:
    """Mean of each input channel in each cell, shape (cells, ..., cells, C_in), of unit spread over the cells."""
    totals = moments.total.reshape(len(moments.count), -1, layer.taps).sum(2).double().numpy()
    means = totals / moments.count.numpy()[:, None] / layer.taps
    spread = float(np.sqrt(means.var(axis=0).sum()))
    scaled: npt.NDArray[np.float64] = (means - means.mean(axis=0)) / max(spread, 1e-30)
    return scaled.reshape(*[moments.cells] * layer.axes, -1)


def _activity(layer: Layer, moments: LayerMoments) -> npt.NDArray[np.float64]:
    by_channel = moments.energy().reshape(len(moments.count), -1, layer.taps).sum(2).double().numpy()
    mean = by_channel / moments.count.numpy()[:, None]
    # Without the constant, cells without any activity would not be similar even to each other.
    typical = max(float(mean.mean()), 1e-30)
    return np.asarray(np.sqrt(mean / typical + 1e-3))
