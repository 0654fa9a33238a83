"""Tucker-2: by higher-order SVD of the weights (Kim et al., 2015), the paper's second baseline; and as a control."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.factorisation.spectra import LossWeighting
from hscc.factorisation.truncated_svd import truncated_svd
from hscc.methods.base import Searched, refinement_rounds
from hscc.search.space import SINGLE_CLUSTER, SINGLE_REGION, SearchSpace
from hscc.search.uniform import Uniform
from hscc.structures.tucker import Tucker2


@dataclass(frozen=True)
class AdaptiveTucker(Searched):
    """Tucker-2 with HSCC's norm, projection and budget, without regions and clusters: the control that isolates them.

    Attributes
    ----------
    shrinkage, rank_multiple, refine
        As in `HSCC`.
    """

    shrinkage: float = 0.3
    rank_multiple: int = 8
    refine: bool | int = False

    def rounds(self) -> int:
        """See `Searched`."""
        return refinement_rounds(self.refine)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        return SearchSpace(
            (SINGLE_REGION,), (SINGLE_CLUSTER,), self.loss_weighting(), self.rank_multiple, projections="auto"
        )

    def loss_weighting(self) -> LossWeighting:
        """See `Searched`."""
        return LossWeighting("output", self.shrinkage)


@dataclass(frozen=True)
class Tucker(Uniform[Tucker2]):
    """Ranks of the input and output modes at one ratio for all convolutions; linear layers by SVD at that ratio."""

    def at_ratio(self, layer: Layer, ratio: float) -> Tucker2:
        """See `Uniform`."""
        return Tucker2((max(1, round(ratio * layer.inputs)), max(1, round(ratio * layer.outputs))))

    def decompose(self, weight: torch.Tensor, structure: Tucker2) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """See `Uniform`."""
        inner, kernel, outer = hosvd(weight, structure.core)
        approximation = torch.einsum("rs...,or,is->oi...", kernel, outer, inner)
        one = (1,) * (weight.ndim - 2)
        return approximation, [inner.T.reshape(*inner.T.shape, *one), kernel, outer.reshape(*outer.shape, *one)]


def hosvd(weight: torch.Tensor, core: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Truncated higher-order SVD over the two channel modes (De Lathauwer et al., 2000).

    Parameters
    ----------
    weight : Tensor, shape (C_out, C_in, *kernel)
        Convolution weight.
    core : (int, int)
        Ranks of the input and the output mode.

    Returns
    -------
    inner : Tensor, shape (C_in, r_in)
        Orthonormal basis of the input mode.
    kernel : Tensor, shape (r_out, r_in, *kernel)
        Core.
    outer : Tensor, shape (C_out, r_out)
        Orthonormal basis of the output mode.
    """
    inner = _leading(weight.transpose(0, 1).flatten(1), core[0])
    outer = _leading(weight.flatten(1), core[1])
    kernel = torch.einsum("oi...,or,is->rs...", weight, outer, inner)
    return inner, kernel, outer


def _leading(unfolding: torch.Tensor, rank: int) -> torch.Tensor:
    return truncated_svd(unfolding, rank)[0]
