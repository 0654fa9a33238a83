"""Spatial SVD: a k x k convolution as k x 1 and 1 x k (Jaderberg et al., 2014; AIMET's Spatial SVD)."""

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
class SpatialSVD:
    """One rank ratio for all convolutions wider than one tap; the others, and linear layers, by SVD at that ratio."""

    def plan_layers(
        self, model: nn.Module, calibration: Calibration, limits: Mapping[str, int], seed: int
    ) -> LayerPlans:
        """See `hscc.compression.methods.base.Method`."""
        return plan_uniform(model, calibration, limits, _at_ratio, self.factor_layer)

    def factor_layer(
        self, model: nn.Module, layer: Layer, calibration: Calibration, structure: Structure
    ) -> tuple[float, State]:
        """See `hscc.compression.methods.base.Method`."""
        if structure.kind != "spatial":
            return svd_layer(model, layer, calibration, structure)
        weight, bias = dense_weight(model, layer), dense_bias(model, layer)
        down, across = separate(weight.reshape(layer.outputs, layer.inputs, *layer.kernel), structure.core[0])
        approximation = torch.einsum("rik,orl->oikl", down, across).flatten(1)
        seen = whole_layer(calibration.moments[layer.name], calibration.images)
        state = {"0.weight": down[:, :, :, None], "1.weight": across[:, :, None, :]}
        if bias is not None:
            state["1.bias"] = bias
        loss = weight_loss(weight - approximation, seen)
        return loss, {key: value.contiguous().clone() for key, value in state.items()}


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
    left, values, right = torch.linalg.svd(unfolded, full_matrices=False)
    root = values[:rank].sqrt()
    down = (left[:, :rank] * root).T.reshape(rank, inputs, height)
    across = (root[:, None] * right[:rank]).reshape(rank, outputs, width).transpose(0, 1)
    return down, across


def _at_ratio(layer: Layer, ratio: float) -> Structure:
    if layer.kind == "linear" or layer.taps == 1:
        return svd_structure(layer, ratio)
    largest = min(layer.inputs * layer.kernel[0], layer.outputs * layer.kernel[1])
    return Structure("spatial", core=(max(1, round(ratio * largest)), 0))
