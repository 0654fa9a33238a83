"""Spatial SVD: a k x k convolution as k x 1 and 1 x k (Jaderberg et al., 2014; AIMET's Spatial SVD).

It is of two dimensions: layers of one or three go by SVD.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hscc.calibration.layers import Layer
from hscc.factorisation.truncated_svd import truncated_svd
from hscc.search.uniform import Uniform
from hscc.structures.spatial import Separable


@dataclass(frozen=True)
class SpatialSVD(Uniform[Separable]):
    """One rank ratio for all 2-D convolutions wider than one tap; all other layers by SVD at that ratio."""

    def decomposes(self, layer: Layer) -> bool:
        """See `Uniform`: rows and columns of taps are what it separates."""
        return super().decomposes(layer) and layer.axes == 2

    def at_ratio(self, layer: Layer, ratio: float) -> Separable:
        """See `Uniform`."""
        largest = min(layer.inputs * layer.kernel[0], layer.outputs * layer.kernel[1])
        return Separable(max(1, round(ratio * largest)))

    def decompose(self, weight: torch.Tensor, structure: Separable) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """See `Uniform`."""
        down, across = separate(weight, structure.rank)
        approximation = torch.einsum("rik,orl->oikl", down, across)
        return approximation, [down[:, :, :, None], across[:, :, None, :]]


def separate(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Best separable approximation of a kernel in the Frobenius norm, by SVD of (C_in kh) x (C_out kw).

    Parameters
    ----------
    weight : Tensor, shape (C_out, C_in, kh, kw)
        Convolution weight.
    rank : int
        Channels between the two convolutions.

    Returns
    -------
    down : Tensor, shape (rank, C_in, kh)
        Column filters.
    across : Tensor, shape (C_out, rank, kw)
        Row filters; with the column filters of equal norm.
    """
    outputs, inputs, height, width = weight.shape
    unfolded = weight.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)
    left, values, right = truncated_svd(unfolded, rank)
    root = values.sqrt()
    down = (left * root).T.reshape(rank, inputs, height)
    across = (root[:, None] * right).reshape(rank, outputs, width).transpose(0, 1)
    return down, across
