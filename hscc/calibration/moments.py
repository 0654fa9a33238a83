"""Moments of one layer, a row a cell, and their sums over regions.

A layer y_p = W x_p + b over output positions p is described by what an approximation of W needs to know: how often
each input direction occurs (the covariance of x) and how much each output direction matters (the second moment of the
gradients of the centred logits, a Gauss-Newton weight).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass
class LayerMoments:
    """Sums over the calibration images, a row a cell.

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
    """

    count: torch.Tensor
    total: torch.Tensor
    second: torch.Tensor | None
    sketch: torch.Tensor | None
    sensitivity: torch.Tensor

    @property
    def cells(self) -> int:
        """Cells a side."""
        return math.isqrt(len(self.count))

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
        Covariance of the patches.
    sensitivity : Tensor, shape (C_out, C_out)
        Mean of g g^T over the region's positions, unshrunk.
    """

    positions: float
    mean: torch.Tensor
    covariance: torch.Tensor | None
    root: torch.Tensor | None
    sensitivity: torch.Tensor


def region_moments(moments: LayerMoments, cells: Sequence[int], images: int) -> RegionMoments:
    """Sum the cells of a region and normalise.

    Parameters
    ----------
    moments : LayerMoments
        Sums, a row a cell.
    cells : sequence of int
        Rows of the region.
    images : int
        Calibration images.
    """
    index = torch.as_tensor(list(cells))
    count = int(moments.count[index].sum())
    if count == 0:
        size = moments.total.shape[1]
        zero = torch.zeros(size, size, dtype=moments.total.dtype)
        return RegionMoments(0.0, moments.total[0] * 0, zero, None, moments.sensitivity[0] * 0)
    mean = moments.total[index].sum(0) / count
    sensitivity = moments.sensitivity[index].sum(0) / count
    if moments.sketch is not None:
        root = _centred_root(moments.sketch, count)
        return RegionMoments(count / images, mean, None, root, sensitivity)
    assert moments.second is not None
    covariance = moments.second[index[0]] / count
    for cell in index[1:]:
        covariance.add_(moments.second[cell], alpha=1 / count)
    covariance.addr_(mean, mean, alpha=-1.0)
    return RegionMoments(count / images, mean, covariance, None, sensitivity)


def _centred_root(sketch: torch.Tensor, count: int) -> torch.Tensor:
    """Turn the sketch of [x, 1] into R' with R'^T R' the covariance of x.

    The last column c of sketch / sqrt(n) has unit length (its square sums n ones) and gives the mean as R^T c, so
    projecting c out of the rows subtracts exactly mean mean^T.
    """
    root, ones = sketch[:, :-1] / count**0.5, sketch[:, -1] / count**0.5
    centred: torch.Tensor = root - torch.outer(ones, ones @ root)
    return centred
