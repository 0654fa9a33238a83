"""Moments of one layer by cell, their collection over batches, and their sums over regions.

A layer y_p = W x_p + b over output positions p is described by what an approximation of W needs to know: how often
each input direction occurs (the covariance of x) and how much each output direction matters (the second moment of the
gradients of the centred logits, a Gauss-Newton weight).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hscc.calibration.layers import Box, Layer, box_size, cell_boxes, output_window, pad, spans, unfold

SKETCH_ROWS = 1024
_MOST_BYTES = 512 * 2**20  # of one layer's second moments
_LEAST_SIDE = 2  # positions of a cell along each axis: weights of their own for single positions fit few samples
_MOST_PRODUCTS = 2e10  # multiply-adds of one layer's second moment for one image, beyond which positions are sampled
_STEPS = (1, 3, 5, 7, 9, 11, 13, 15)  # odd: strides and upsampling by 2 leave patterns that even ones would follow
_NEARLY = 1.5  # times fewer positions than could be kept, for steps that are more even
_GRAM_BLOCK = 384  # rows of a block of a Gram matrix, of which only those on and above the diagonal are computed


@dataclass
class LayerMoments:
    """Sums over the calibration images, one row per cell.

    Attributes
    ----------
    count : Tensor of int64, shape (cells,)
        Samples (images times positions).
    total : Tensor of float, shape (cells, d)
        Sum of the patches x.
    second : Tensor of float, shape (cells, d, d) or None
        Sum of x x^T.
    sketch : Tensor of float, shape (rows, d + 1) or None
        For layers with a single position: a matrix R with R^T R equal to the sum of [x, 1] [x, 1]^T (exactly, as long
        as there are no more images than rows are kept). Takes the place of `second`, which a wide linear layer has no
        room for.
    sensitivity : Tensor of float, shape (cells, C_out, C_out)
        Sum over images and positions of g g^T, g the gradients of the centred logits by y, summed over classes.
    axes : int
        Dimensions of the grid of cells.
    """

    count: torch.Tensor
    total: torch.Tensor
    second: torch.Tensor | None
    sketch: torch.Tensor | None
    sensitivity: torch.Tensor
    axes: int = 2

    @property
    def cells(self) -> int:
        """Cells per side."""
        side: int = round(len(self.count) ** (1 / self.axes))
        return side

    def energy(self) -> torch.Tensor:
        """Sum of x squared, shape (cells, d)."""
        if self.second is not None:
            return self.second.diagonal(dim1=1, dim2=2)
        assert self.sketch is not None
        return self.sketch[None, :, :-1].square().sum(1)


@dataclass(frozen=True)
class RegionMoments:
    """What the factorisation of one region needs, averaged over its samples.

    Attributes
    ----------
    positions : float
        Output positions of the region; the loss of one position times this is the region's.
    mean : Tensor, shape (d,)
        Mean patch.
    root : Tensor or None, shape (rows, d)
        R with R^T R = covariance, for single-position layers.
    covariance : Tensor or None, shape (d, d)
        Covariance of the patches, where it was asked for.
    sensitivity : Tensor, shape (C_out, C_out)
        Mean of g g^T over the region's positions, unshrunk.
    """

    positions: float
    mean: torch.Tensor
    covariance: torch.Tensor | None
    root: torch.Tensor | None
    sensitivity: torch.Tensor


def region_moments(
    moments: LayerMoments, cells: Sequence[int], images: int, covariance: bool = True
) -> RegionMoments:  # fmt: skip
    """Sum the cells of a region and normalise.

    Parameters
    ----------
    moments : LayerMoments
        Sums, one row per cell.
    cells : sequence of int
        Rows of the region.
    images : int
        Calibration images.
    covariance : bool
        Whether to sum the second moments of a layer with several positions too, which takes most of the time.
    """
    index = torch.as_tensor(list(cells))
    count = int(moments.count[index].sum())
    if count == 0:
        size = moments.total.shape[1]
        zero = torch.zeros(size, size, dtype=moments.total.dtype)
        return RegionMoments(0.0, moments.total[0] * 0, zero, None, moments.sensitivity[0] * 0)
    mean = moments.total[index].sum(0) / count
    sensitivity = _mean_over(moments.sensitivity, index, count)
    if moments.sketch is not None:
        root = _centred_root(moments.sketch, count)
        return RegionMoments(count / images, mean, None, root, sensitivity)
    if not covariance:
        return RegionMoments(count / images, mean, None, None, sensitivity)
    assert moments.second is not None
    spread = _mean_over(moments.second, index, count).addr_(mean, mean, alpha=-1.0)
    return RegionMoments(count / images, mean, spread, None, sensitivity)


def together(moments: LayerMoments) -> LayerMoments:
    """Sum all cells of a layer into one."""
    if len(moments.count) == 1:
        return moments
    second = None if moments.second is None else moments.second.sum(0, keepdim=True)
    return LayerMoments(
        moments.count.sum(0, keepdim=True), moments.total.sum(0, keepdim=True), second, moments.sketch,
        moments.sensitivity.sum(0, keepdim=True), moments.axes,
    )  # fmt: skip


def _mean_over(sums: torch.Tensor, cells: torch.Tensor, count: int) -> torch.Tensor:
    """Sum the rows of some cells and divide, without a copy of them all."""
    mean = sums[cells[0]] / count
    for cell in cells[1:]:
        mean.add_(sums[cell], alpha=1 / count)
    return mean


class LayerSums:
    """Running sums of one layer.

    Where the second moments of one image would take more than 2e10 multiply-adds, as in wide layers on a volume,
    patches are taken at every so manyth position along each axis (`sampling_steps`), of each image at others, and stand
    for all; gradients always count at every position.

    Parameters
    ----------
    layer : Layer
        Geometry.
    cells : int
        Cells per side; halved where they would take more than 512 MB or be less than two positions wide.
    like : Tensor
        Of the precision to keep; at least float32.
    """

    def __init__(self, layer: Layer, cells: int, like: torch.Tensor) -> None:
        self.layer = layer
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        own = _own_cells(layer, cells, dtype.itemsize)
        self.tiles: list[Box] = cell_boxes(layer.grid, own)
        self.steps, self.images = sampling_steps(layer), 0
        n, d, c = len(self.tiles), layer.features, layer.outputs
        self.count = torch.zeros(n, dtype=torch.int64)
        self.total = torch.zeros(n, d, dtype=dtype)
        self.sensitivity = torch.zeros(n, c, c, dtype=dtype)
        self.sketched = layer.positions == 1
        self.second = None if self.sketched else torch.zeros(n, d, d, dtype=dtype)
        self.rows: list[torch.Tensor] = []

    def add_input(self, inputs: torch.Tensor) -> None:
        """Add the inputs of a batch."""
        padded = pad(self.layer, inputs)
        for part in padded.split(1 if math.prod(self.steps) > 1 else len(padded)):
            self._add(part)
            self.images += len(part)

    def _add(self, padded: torch.Tensor) -> None:
        for cell, tile in enumerate(self.tiles):
            if not box_size(tile):
                continue
            chosen = sampled_box(tile, self.steps, self.images)
            patches = unfold(self.layer, padded, chosen, self.steps).to("cpu", self.total.dtype)
            patches = patches.reshape(-1, self.layer.features)
            count = len(padded) * box_size(tile)
            unit = (count / len(patches)) ** 0.5
            if unit > 1:  # each stands for several
                patches = patches * unit
            self.count[cell] += count
            self.total[cell] += patches.sum(0) * unit
            if self.second is not None:
                add_gram(self.second[cell], patches)
            else:
                self._sketch(patches)

    def add_gradient(self, gradient: torch.Tensor) -> None:
        """Add gradients of one centred logit by the layer's output."""
        for cell, tile in enumerate(self.tiles):
            if not box_size(tile):
                continue
            flat = (
                output_window(gradient, tile)
                .movedim(1, -1)
                .reshape(-1, self.layer.outputs)
                .to("cpu", self.sensitivity.dtype)
            )
            self.sensitivity[cell].addmm_(flat.T, flat)

    def add_sensitivity(self, matrix: torch.Tensor, images: int) -> None:
        """Add, for some images, a second moment that is shared out evenly over all positions."""
        for cell, tile in enumerate(self.tiles):
            share = images * box_size(tile) / self.layer.positions
            self.sensitivity[cell] += share * matrix.to("cpu", self.sensitivity.dtype)

    def _sketch(self, patches: torch.Tensor) -> None:
        self.rows.append(torch.cat((patches, patches.new_ones(len(patches), 1)), dim=1))
        if sum(map(len, self.rows)) >= 2 * SKETCH_ROWS:
            self.rows = [shrink_rows(torch.cat(self.rows))]

    def result(self) -> LayerMoments:
        """Return the sums; nothing can be added afterwards."""
        sketch = shrink_rows(torch.cat(self.rows)) if self.sketched else None
        if self.second is not None:
            for second in self.second:
                mirror_gram(second)
        return LayerMoments(self.count, self.total, self.second, sketch, self.sensitivity, self.layer.axes)


def _centred_root(sketch: torch.Tensor, count: int) -> torch.Tensor:
    """Turn the sketch of [x, 1] into R' with R'^T R' the covariance of x.

    The last column c of sketch / sqrt(n) has unit length (its square sums n ones) and gives the mean as R^T c, so
    projecting c out of the rows subtracts exactly mean mean^T.
    """
    root, ones = sketch[:, :-1] / count**0.5, sketch[:, -1] / count**0.5
    centred: torch.Tensor = root - torch.outer(ones, ones @ root)
    return centred


def sampling_steps(layer: Layer) -> tuple[int, ...]:
    """Steps along each axis at which patches are taken for second moments: 1 unless all would cost too much.

    Of the steps that keep one image under 2e10 multiply-adds, and of these nearly as many positions as possible, the
    most even ones are taken: neighbours along one axis say less than positions spread over all.
    """
    excess = layer.positions * layer.features**2 / _MOST_PRODUCTS
    if excess <= 1 or layer.positions == 1:
        return (1,) * layer.axes
    enough = [steps for steps in itertools.product(_STEPS, repeat=layer.axes) if math.prod(steps) >= excess]
    if not enough:
        return (_STEPS[-1],) * layer.axes
    fewest = min(map(math.prod, enough))
    near = [steps for steps in enough if math.prod(steps) <= _NEARLY * fewest]
    return min(near, key=lambda steps: (max(steps), math.prod(steps), steps))


def sampled_box(box: Box, steps: Sequence[int], image: int) -> Box:
    """Cut a box at its start so that steps through it reach, from one image to the next, other positions."""
    found: list[int] = []
    for (first, end), step in zip(spans(box), steps, strict=True):
        image, shift = divmod(image, step)
        found += (first + shift % (end - first), end)
    return tuple(found)


def _own_cells(layer: Layer, cells: int, itemsize: int) -> int:
    def fit() -> bool:
        wide = min(layer.grid) >= _LEAST_SIDE * cells
        return wide and cells**layer.axes * layer.features**2 * itemsize <= _MOST_BYTES

    while cells > 1 and not fit():
        cells //= 2
    return cells


def add_gram(total: torch.Tensor, rows: torch.Tensor) -> None:
    """Add rows^T rows to the blocks on and above the diagonal: half the work for wide layers; see `mirror_gram`."""
    width = len(total)
    for first in range(0, width, _GRAM_BLOCK):
        last = min(first + _GRAM_BLOCK, width)
        total[first:last, first:].addmm_(rows[:, first:last].T, rows[:, first:])


def mirror_gram(total: torch.Tensor) -> None:
    """Fill in what `add_gram` left out."""
    for first in range(0, len(total), _GRAM_BLOCK):
        last = min(first + _GRAM_BLOCK, len(total))
        total[last:, first:last] = total[first:last, last:].T


def shrink_rows(rows: torch.Tensor) -> torch.Tensor:
    """Fewer rows with (nearly) the same R^T R: the leading right singular vectors, scaled."""
    if len(rows) <= SKETCH_ROWS:
        return rows
    _, vectors = torch.linalg.eigh(rows @ rows.T)
    leading = vectors[:, -SKETCH_ROWS:]
    kept: torch.Tensor = leading.T @ rows  # singular values are kept: leading^T rows = S V^T
    return kept
