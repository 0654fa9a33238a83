"""The largest rank ratio, one for all layers, that meets the budget."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import nn

from hscc.budgets.resources import Counted, Limit
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.errors import BudgetError
from hscc.factorisation.factors import RegionFactors, weight_loss
from hscc.factorisation.region_context import dense_bias, dense_weight, whole_layer
from hscc.factorisation.truncated_svd import truncated_svd
from hscc.plans import LayerPlan
from hscc.search.allocation import UnreachableError
from hscc.search.low_rank import LayerPlans
from hscc.search.parallel import each_layer
from hscc.structures.base import State, Structure, sequential_state, whole_tiles
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region

_BISECTIONS = 40
_S = TypeVar("_S", bound=Structure)


class Uniform(ABC, Generic[_S]):
    """Base of the methods that decompose each convolution's weight alone, at one ratio for all layers.

    Layers that it cannot decompose, such as linear layers and 1 x 1 convolutions, go by SVD at that ratio.
    """

    def decomposes(self, layer: Layer) -> bool:
        """Whether it has a decomposition of its own for a layer."""
        return layer.kind == "conv" and layer.taps > 1

    @abstractmethod
    def at_ratio(self, layer: Layer, ratio: float) -> _S:
        """Structure of a layer at a rank ratio, 0 to 1."""

    @abstractmethod
    def decompose(self, weight: torch.Tensor, structure: _S) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Approximate a weight (C_out, C_in, *kernel): the approximation, and the module's kernels in order."""

    def plan_layers(self, model: nn.Module, calibration: Calibration, limits: Sequence[Limit], seed: int) -> LayerPlans:
        """See `hscc.methods.base.Method`."""
        return plan_uniform(model, calibration, limits, self._structure, self.factor_layer)

    def factor_layer(
        self, model: nn.Module, layer: Layer, calibration: Calibration, structure: Structure
    ) -> tuple[float, State]:
        """See `hscc.methods.base.Method`."""
        if isinstance(structure, LowRank):
            return svd_layer(model, layer, calibration, structure)
        weight, bias = dense_weight(model, layer), dense_bias(model, layer)
        kernel = weight.reshape(layer.outputs, layer.inputs, *layer.kernel)
        approximation, kernels = self.decompose(kernel, structure)  # type: ignore[arg-type]
        moments = whole_layer(calibration.moments[layer.name], calibration.images)
        return weight_loss(weight - approximation.flatten(1), moments), sequential_state(kernels, bias)

    def _structure(self, layer: Layer, ratio: float) -> Structure:
        return self.at_ratio(layer, ratio) if self.decomposes(layer) else svd_structure(layer, ratio)


StructureAt = Callable[[Layer, float], Structure]
Factor = Callable[[nn.Module, Layer, Calibration, Structure], tuple[float, State]]


def plan_uniform(
    model: nn.Module, calibration: Calibration, limits: Sequence[Limit], structure_at: StructureAt, factor: Factor
) -> LayerPlans:
    """Plan every layer at the largest common rank ratio.

    Parameters
    ----------
    model, calibration, limits
        As in `hscc.methods.base.Method`.
    structure_at : callable
        (layer, ratio in 0 to 1) -> factored structure.
    factor : callable
        (model, layer, calibration, structure) -> predicted loss, state of the replacement.
    """
    if not all(isinstance(limit.model, Counted) for limit in limits):
        raise BudgetError(
            "this method has one rank ratio for all layers and cannot be held to measured times; give it a budget of "
            "macs or params without a latency table or with only=True, or take a method that searches, such as hscc."
        )
    structures = largest_ratio(calibration.layers, structure_at, limits)

    def made(index: int) -> tuple[LayerPlan, State | None]:
        layer, structure = calibration.layers[index], structures[index]
        if structure == DENSE:
            return LayerPlan(layer, structure, 0.0, "its factors would cost more than itself"), None
        loss, state = factor(model, layer, calibration, structure)
        return LayerPlan(layer, structure, loss), state

    found = each_layer(made, range(len(structures)), "factors", lambda index: calibration.layers[index].weights)
    weights = {entry.layer.name: state for entry, state in found if state is not None}
    return [entry for entry, _ in found], weights


def largest_ratio(layers: list[Layer], structure_at: StructureAt, limits: Sequence[Limit]) -> list[Structure]:
    """Structures of all layers at the largest common rank ratio that meets the limit.

    A layer whose factors would cost no less than the dense layer stays dense.

    Parameters
    ----------
    layers : list of Layer
        All layers.
    structure_at : callable
        (layer, ratio in 0 to 1) -> factored structure.
    limits : sequence of Limit
        For all layers together.

    Raises
    ------
    UnreachableError
        If rank 1 everywhere is too much.
    """

    def decide(ratio: float) -> list[Structure]:
        found = [structure_at(layer, ratio) for layer in layers]
        return [
            structure if _pays(layer, structure, limits) else DENSE
            for layer, structure in zip(layers, found, strict=True)
        ]

    def meets(structures: list[Structure]) -> bool:
        return all(_cost(layers, structures, limit) <= limit.most for limit in limits)

    low, high = 0.0, 1.0
    smallest = decide(low)
    if not meets(smallest):
        raise UnreachableError(np.asarray([_cost(layers, smallest, limit) for limit in limits], dtype=np.float64))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if meets(decide(middle)) else (low, middle)
    return decide(low)


def _pays(layer: Layer, structure: Structure, limits: Sequence[Limit]) -> bool:
    return any(limit.model.of_structure(layer, structure) < limit.model.of_structure(layer, DENSE) for limit in limits)


def _cost(layers: Sequence[Layer], structures: Sequence[Structure], limit: Limit) -> float:
    return sum(limit.model.of_structure(layer, structure) for layer, structure in zip(layers, structures, strict=True))


def svd_structure(layer: Layer, ratio: float) -> LowRank:
    """One region and one cluster with a share of the largest rank, at least 1."""
    rank = max(1, round(ratio * min(layer.outputs, layer.features)))
    return LowRank(1, (Region(whole_tiles(layer.axes), (Block(tuple(range(layer.inputs)), rank),)),))


def svd_layer(model: nn.Module, layer: Layer, calibration: Calibration, structure: LowRank) -> tuple[float, State]:
    """Truncated SVD of the weight alone: predicted loss and state of the replacement."""
    rank = structure.regions[0].rank
    weight, bias = dense_weight(model, layer), dense_bias(model, layer)
    left, values, right = truncated_svd(weight, rank)
    root = values.sqrt()
    encoder, decoder = root[:, None] * right, left * root
    moments = whole_layer(calibration.moments[layer.name], calibration.images)
    loss = weight_loss(weight - decoder @ encoder, moments)
    kept_bias = bias if bias is not None else weight.new_zeros(layer.outputs)
    return loss, structure.state(layer, [RegionFactors([encoder], decoder, kept_bias, loss)])
