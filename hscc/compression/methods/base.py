"""What a method must be able to do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn

from hscc.calibration.collect import Calibration
from hscc.compression.fill import State
from hscc.compression.plan import LayerPlan

LayerPlans = tuple[list[LayerPlan], dict[str, State]]


@runtime_checkable
class Method(Protocol):
    """A dataclass whose fields are the method's settings."""

    def plan_layers(self, model: nn.Module, calibration: Calibration, limit: int, seed: int) -> LayerPlans:
        """Decide every layer of a calibration and compute the weights.

        Parameters
        ----------
        model : nn.Module
            The dense network; left as it is.
        calibration : Calibration
            Of the same network.
        limit : int
            MACs that all layers of the calibration may have together.
        seed : int
            Of whatever the method draws.

        Returns
        -------
        plans : list of LayerPlan
            One a layer of the calibration, in its order.
        weights : dict
            Layer name to the state of its replacement, for layers that are not left dense.

        Raises
        ------
        BudgetError
            If the limit cannot be met.
        """
        ...
