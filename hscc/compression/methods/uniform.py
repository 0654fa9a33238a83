"""One ratio for all layers: the largest that meets the budget."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.compression.fill import State
from hscc.compression.methods.base import LayerPlans
from hscc.compression.plan import LayerPlan
from hscc.compression.structure import DENSE, Structure, structure_macs
from hscc.errors import BudgetError

_BISECTIONS = 40

StructureAt = Callable[[Layer, float], Structure]
Factor = Callable[[nn.Module, Layer, Calibration, Structure], tuple[float, State]]


def plan_uniform(
    model: nn.Module, calibration: Calibration, limit: int, structure_at: StructureAt, factor: Factor
) -> LayerPlans:
    """Plan every layer at the largest common rank ratio.

    Parameters
    ----------
    model, calibration, limit
        As in `hscc.compression.methods.base.Method`.
    structure_at : callable
        (layer, ratio in 0 to 1) -> factored structure.
    factor : callable
        (model, layer, calibration, structure) -> predicted loss, state of the replacement.
    """
    plans, weights = [], {}
    structures = largest_ratio(calibration.layers, structure_at, limit)
    for layer, structure in zip(calibration.layers, structures, strict=True):
        if structure.kind == "dense":
            plans.append(LayerPlan(layer, structure, 0.0, "its factors would cost more than itself"))
        else:
            loss, weights[layer.name] = factor(model, layer, calibration, structure)
            plans.append(LayerPlan(layer, structure, loss))
    return plans, weights


def largest_ratio(layers: list[Layer], structure_at: StructureAt, limit: int) -> list[Structure]:
    """Structures of all layers at the largest common rank ratio that meets the limit.

    A layer whose factors would cost no less than the dense layer stays dense.

    Parameters
    ----------
    layers : list of Layer
        All layers.
    structure_at : callable
        (layer, ratio in 0 to 1) -> factored structure.
    limit : int
        MACs for all layers together.

    Raises
    ------
    BudgetError
        If rank 1 everywhere is too much.
    """

    def decide(ratio: float) -> list[Structure]:
        found = [structure_at(layer, ratio) for layer in layers]
        return [
            structure if structure_macs(layer, structure) < layer.macs else DENSE
            for layer, structure in zip(layers, found, strict=True)
        ]  # fmt: skip

    def cost(structures: list[Structure]) -> int:
        return sum(structure_macs(layer, structure) for layer, structure in zip(layers, structures, strict=True))

    low, high = 0.0, 1.0
    if cost(decide(low)) > limit:
        raise BudgetError(
            f"a budget of {limit:,} MACs cannot be reached; rank 1 in every layer needs {cost(decide(low)):,}."
        )
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(decide(middle)) <= limit else (low, middle)
    return decide(low)
