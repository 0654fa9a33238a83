"""Global SVD: the whole layer as one cluster. The paper's baseline, and the referee's control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.compression.factors import RegionFactors, weight_loss
from hscc.compression.fill import State, low_rank_state
from hscc.compression.low_rank import LayerPlans, factor_low_rank, plan_low_rank
from hscc.compression.methods.uniform import plan_uniform
from hscc.compression.search import dense_bias, dense_weight, whole_layer
from hscc.compression.space import TOGETHER, WHOLE, Measure, SearchSpace
from hscc.compression.structure import Block, Region, Structure


@dataclass(frozen=True)
class GlobalSVD:
    """Singular value decomposition of each layer's weight, without regions or clusters.

    Attributes
    ----------
    adaptive : bool
        False: one rank ratio for all layers and weights only, as in the paper. True: ranks bought under the budget
        in the same weighted norm as HSCC, the control that isolates what regions and clusters add.
    shrinkage, rank_multiple
        As in `HSCC`; only the adaptive form uses them.
    """

    adaptive: bool = False
    shrinkage: float = 0.3
    rank_multiple: int = 8

    def plan_layers(
        self, model: nn.Module, calibration: Calibration, limits: Mapping[str, int], seed: int
    ) -> LayerPlans:
        """See `hscc.compression.methods.base.Method`."""
        if self.adaptive:
            space = SearchSpace((WHOLE,), (TOGETHER,), self._measure(), self.rank_multiple)
            return plan_low_rank(model, calibration, limits, space)
        return plan_uniform(model, calibration, limits, svd_structure, self.factor_layer)

    def factor_layer(
        self, model: nn.Module, layer: Layer, calibration: Calibration, structure: Structure
    ) -> tuple[float, State]:
        """See `hscc.compression.methods.base.Method`."""
        if self.adaptive:
            return factor_low_rank(model, layer, calibration, self._measure(), structure)
        return svd_layer(model, layer, calibration, structure)

    def _measure(self) -> Measure:
        return Measure("output", self.shrinkage)


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
