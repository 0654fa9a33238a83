"""One ratio for all layers: the largest that meets the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.compression.allocation import UnreachableError
from hscc.compression.cost_models import COST_MODELS
from hscc.compression.fill import State
from hscc.compression.low_rank import LayerPlans
from hscc.compression.plan import LayerPlan
from hscc.compression.structure import DENSE, Structure
from hscc.compression.threads import each_layer

_BISECTIONS = 40

StructureAt = Callable[[Layer, float], Structure]
Factor = Callable[[nn.Module, Layer, Calibration, Structure], tuple[float, State]]


def plan_uniform(
    model: nn.Module, calibration: Calibration, limits: Mapping[str, int], structure_at: StructureAt, factor: Factor
) -> LayerPlans:
    """Plan every layer at the largest common rank ratio.

    Parameters
    ----------
    model, calibration, limits
        As in `hscc.compression.methods.base.Method`.
    structure_at : callable
        (layer, ratio in 0 to 1) -> factored structure.
    factor : callable
        (model, layer, calibration, structure) -> predicted loss, state of the replacement.
    """
    structures = largest_ratio(calibration.layers, structure_at, limits)

    def made(index: int) -> tuple[LayerPlan, State | None]:
        layer, structure = calibration.layers[index], structures[index]
        if structure.kind == "dense":
            return LayerPlan(layer, structure, 0.0, "its factors would cost more than itself"), None
        loss, state = factor(model, layer, calibration, structure)
        return LayerPlan(layer, structure, loss), state

    found = each_layer(made, range(len(structures)), "factors")
    weights = {entry.layer.name: state for entry, state in found if state is not None}
    return [entry for entry, _ in found], weights


def largest_ratio(layers: list[Layer], structure_at: StructureAt, limits: Mapping[str, int]) -> list[Structure]:
    """Structures of all layers at the largest common rank ratio that meets the limit.

    A layer whose factors would cost no less than the dense layer stays dense.

    Parameters
    ----------
    layers : list of Layer
        All layers.
    structure_at : callable
        (layer, ratio in 0 to 1) -> factored structure.
    limits : mapping
        Resource to the most of it for all layers together.

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
        return all(_cost(layers, structures, name) <= limit for name, limit in limits.items())

    low, high = 0.0, 1.0
    smallest = decide(low)
    if not meets(smallest):
        raise UnreachableError(np.asarray([_cost(layers, smallest, name) for name in limits], dtype=np.float64))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if meets(decide(middle)) else (low, middle)
    return decide(low)


def _pays(layer: Layer, structure: Structure, limits: Mapping[str, int]) -> bool:
    return any(
        COST_MODELS[name].of_structure(layer, structure) < COST_MODELS[name].of_structure(layer, DENSE)
        for name in limits
    )


def _cost(layers: Sequence[Layer], structures: Sequence[Structure], name: str) -> float:
    return sum(
        COST_MODELS[name].of_structure(layer, structure) for layer, structure in zip(layers, structures, strict=True)
    )
