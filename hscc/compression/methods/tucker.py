"""Tucker-2 by higher-order SVD (Kim et al., 2015): the paper's second baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.compression.factors import weight_loss
from hscc.compression.fill import State
from hscc.compression.low_rank import LayerPlans
from hscc.compression.methods.global_svd import svd_layer, svd_structure
from hscc.compression.methods.uniform import plan_uniform
from hscc.compression.search import dense_bias, dense_weight, whole_layer
from hscc.compression.structure import Structure


@dataclass(frozen=True)
class Tucker:
    """Ranks of the input and output modes at one ratio for all convolutions; linear layers by SVD at that ratio."""

    def plan_layers(
        self, model: nn.Module, calibration: Calibration, limits: Mapping[str, int], seed: int
    ) -> LayerPlans:
        """See `hscc.compression.methods.base.Method`."""
        return plan_uniform(model, calibration, limits, _at_ratio, self.factor_layer)

    def factor_layer(
        self, model: nn.Module, layer: Layer, calibration: Calibration, structure: Structure
    ) -> tuple[float, State]:
        """See `hscc.compression.methods.base.Method`."""
        if structure.kind != "tucker":
            return svd_layer(model, layer, calibration, structure)
        weight, bias = dense_weight(model, layer), dense_bias(model, layer)
        inner, kernel, outer = hosvd(weight.reshape(layer.outputs, layer.inputs, *layer.kernel), structure.core)
        approximation = torch.einsum("rskl,or,is->oikl", kernel, outer, inner).flatten(1)
        seen = whole_layer(calibration.moments[layer.name], calibration.images)
        state = {"0.weight": inner.T[:, :, None, None], "1.weight": kernel, "2.weight": outer[:, :, None, None]}
        if bias is not None:
            state["2.bias"] = bias
        loss = weight_loss(weight - approximation, seen)
        return loss, {key: value.contiguous().clone() for key, value in state.items()}


def hosvd(weight: torch.Tensor, core: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Truncated higher-order SVD over the two channel modes (De Lathauwer et al., 2000).

    Parameters
    ----------
    weight : Tensor, shape (C_out, C_in, kh, kw)
        Convolution weight.
    core : (int, int)
        Ranks of the input and the output mode.

    Returns
    -------
    inner : Tensor, shape (C_in, r_in)
        Orthonormal basis of the input mode.
    kernel : Tensor, shape (r_out, r_in, kh, kw)
        Core.
    outer : Tensor, shape (C_out, r_out)
        Orthonormal basis of the output mode.
    """
    inner = _leading(weight.transpose(0, 1).flatten(1), core[0])
    outer = _leading(weight.flatten(1), core[1])
    kernel = torch.einsum("oikl,or,is->rskl", weight, outer, inner)
    return inner, kernel, outer


def _leading(unfolding: torch.Tensor, rank: int) -> torch.Tensor:
    left: torch.Tensor = torch.linalg.svd(unfolding, full_matrices=False).U
    return left[:, :rank]


def _at_ratio(layer: Layer, ratio: float) -> Structure:
    if layer.kind == "linear" or layer.taps == 1:
        return svd_structure(layer, ratio)
    core = (max(1, round(ratio * layer.inputs)), max(1, round(ratio * layer.outputs)))
    return Structure("tucker", core=core)
