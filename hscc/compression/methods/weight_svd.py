"""Truncated SVD of a layer's weight alone, as one region and one cluster."""

from __future__ import annotations

import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.compression.factors import RegionFactors, weight_loss
from hscc.compression.fill import State, low_rank_state
from hscc.compression.places import dense_bias, dense_weight, whole_layer
from hscc.compression.structure import Block, Region, Structure


def svd_structure(layer: Layer, ratio: float) -> Structure:
    """One region and one cluster with a share of the largest rank, at least 1."""
    rank = max(1, round(ratio * min(layer.outputs, layer.features)))
    whole = Region(((0, 1, 0, 1),), (Block(tuple(range(layer.inputs)), rank),))
    return Structure("low_rank", 1, (whole,))


def svd_layer(model: nn.Module, layer: Layer, calibration: Calibration, structure: Structure) -> tuple[float, State]:
    """Truncated SVD of the weight alone: predicted loss and state of the replacement."""
    rank = structure.regions[0].rank
    weight, bias = dense_weight(model, layer), dense_bias(model, layer)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    root = values[:rank].sqrt()
    encoder, decoder = root[:, None] * right[:rank], left[:, :rank] * root
    seen = whole_layer(calibration.moments[layer.name], calibration.images)
    loss = weight_loss(weight - decoder @ encoder, seen)
    kept_bias = bias if bias is not None else weight.new_zeros(layer.outputs)
    return loss, low_rank_state(layer, structure, [RegionFactors([encoder], decoder, kept_bias, loss)])
