"""Running sums of one layer's inputs and gradients, cell by cell."""

from __future__ import annotations

import torch

from hscc.calibration.cells import area, cell_rectangles
from hscc.calibration.layers import Layer, Rectangle, pad, unfold
from hscc.calibration.moments import LayerMoments

_SKETCH_ROWS = 1024
_MOST_BYTES = 512 * 2**20  # of one layer's second moments
_GRAM_BLOCK = 384


class LayerSums:
    """Running sums of one layer.

    Parameters
    ----------
    layer : Layer
        Geometry.
    cells : int
        Cells a side that are asked for; fewer where they would take more than 512 MB.
    like : Tensor
        Of the precision to keep; at least float32.
    """

    def __init__(self, layer: Layer, cells: int, like: torch.Tensor) -> None:
        self.layer = layer
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        own = _affordable_cells(layer, cells, dtype.itemsize)
        self.tiles: list[Rectangle] = cell_rectangles(layer.grid, own)
        n, d, c = len(self.tiles), layer.features, layer.outputs
        self.count = torch.zeros(n, dtype=torch.int64)
        self.total = torch.zeros(n, d, dtype=dtype)
        self.sensitivity = torch.zeros(n, c, c, dtype=dtype)
        self.sketched = layer.positions == 1
        self.second = None if self.sketched else torch.zeros(n, d, d, dtype=dtype)
        self.rows: list[torch.Tensor] = []

    def add_input(self, inputs: torch.Tensor) -> None:
        """Add what the layer saw of a batch."""
        padded = pad(self.layer, inputs)
        for cell, tile in enumerate(self.tiles):
            if not area(tile):
                continue
            patches = unfold(self.layer, padded, tile).to("cpu", self.total.dtype).reshape(-1, self.layer.features)
            self.count[cell] += len(patches)
            self.total[cell] += patches.sum(0)
            if self.second is not None:
                _add_gram(self.second[cell], patches)
            else:
                self._sketch(patches)

    def add_gradient(self, gradient: torch.Tensor) -> None:
        """Add gradients of one centred logit by the layer's output."""
        for cell, tile in enumerate(self.tiles):
            if not area(tile):
                continue
            part = gradient if gradient.ndim == 2 else gradient[:, :, tile[0] : tile[1], tile[2] : tile[3]]
            flat = part.movedim(1, -1).reshape(-1, self.layer.outputs).to("cpu", self.sensitivity.dtype)
            self.sensitivity[cell].addmm_(flat.T, flat)

    def _sketch(self, patches: torch.Tensor) -> None:
        self.rows.append(torch.cat((patches, patches.new_ones(len(patches), 1)), dim=1))
        if sum(map(len, self.rows)) >= 2 * _SKETCH_ROWS:
            self.rows = [_shrink(torch.cat(self.rows))]

    def result(self) -> LayerMoments:
        """Return the sums; nothing can be added afterwards."""
        sketch = _shrink(torch.cat(self.rows)) if self.sketched else None
        if self.second is not None:
            for second in self.second:
                _mirror(second)
        return LayerMoments(self.count, self.total, self.second, sketch, self.sensitivity)


def _affordable_cells(layer: Layer, cells: int, itemsize: int) -> int:
    if layer.positions == 1:
        return 1
    while cells > 1 and cells**2 * layer.features**2 * itemsize > _MOST_BYTES:
        cells //= 2
    return cells


def _add_gram(total: torch.Tensor, rows: torch.Tensor) -> None:
    """Add rows^T rows to the blocks on and above the diagonal: half the work for wide layers; see `_mirror`."""
    width = len(total)
    for first in range(0, width, _GRAM_BLOCK):
        last = min(first + _GRAM_BLOCK, width)
        total[first:last, first:].addmm_(rows[:, first:last].T, rows[:, first:])


def _mirror(total: torch.Tensor) -> None:
    for first in range(0, len(total), _GRAM_BLOCK):
        last = min(first + _GRAM_BLOCK, len(total))
        total[last:, first:last] = total[first:last, last:].T


def _shrink(rows: torch.Tensor) -> torch.Tensor:
    """Fewer rows with (nearly) the same R^T R: the leading right singular vectors, scaled."""
    if len(rows) <= _SKETCH_ROWS:
        return rows
    _, vectors = torch.linalg.eigh(rows @ rows.T)
    leading = vectors[:, -_SKETCH_ROWS:]
    kept: torch.Tensor = leading.T @ rows  # singular values are kept: leading^T rows = S V^T
    return kept
