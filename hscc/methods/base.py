"""What every method provides, and the base class of those that search for structures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from torch import nn

from hscc.budgets.resources import Limit
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.errors import CompressionError
from hscc.factorisation.joint import ROUNDS
from hscc.factorisation.spectra import LossWeighting
from hscc.search.low_rank import LayerPlans, factor_low_rank, plan_low_rank
from hscc.search.space import SearchSpace
from hscc.structures.base import State, Structure


@runtime_checkable
class Method(Protocol):
    """A dataclass whose fields are the method's settings."""

    def plan_layers(self, model: nn.Module, calibration: Calibration, limits: Sequence[Limit], seed: int) -> LayerPlans:
        """Decide every layer of a calibration and compute the weights.

        Parameters
        ----------
        model : nn.Module
            The dense network; left as it is.
        calibration : Calibration
            Of the same network.
        limits : sequence of Limit
            At least one.
        seed : int
            Of whatever the method draws.

        Returns
        -------
        plans : list of LayerPlan
            One per layer of the calibration, in its order.
        weights : dict
            Layer name to the state of its replacement, for layers that are not left dense.

        Raises
        ------
        hscc.search.allocation.UnreachableError
            If a limit cannot be met.
        """
        ...

    def factor_layer(
        self, model: nn.Module, layer: Layer, calibration: Calibration, structure: Structure
    ) -> tuple[float, State]:
        """Compute the weights of a layer whose structure and ranks are decided.

        Returns
        -------
        float
            Predicted loss.
        dict
            State of the replacement.
        """
        ...


def refinement_rounds(refine: bool | int) -> int:
    """Rounds that a method's setting ``refine`` asks for: True for the usual number, False for none.

    Raises
    ------
    CompressionError
        If it is negative.
    """
    if isinstance(refine, bool):
        return ROUNDS if refine else 0
    if not isinstance(refine, int) or refine < 0:
        raise CompressionError(f"refine={refine!r} is neither true nor false nor a number of rounds; give 0 or more.")
    return refine


class Searched(ABC):
    """Base of the methods that differ only in the structures they may choose from."""

    @abstractmethod
    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """Structures to choose from."""

    @abstractmethod
    def loss_weighting(self) -> LossWeighting:
        """How losses are measured in choosing among them."""

    def rounds(self) -> int:
        """Most rounds of the joint refinement of a layer's factors; none unless a method has a setting for it."""
        return 0

    def plan_layers(self, model: nn.Module, calibration: Calibration, limits: Sequence[Limit], seed: int) -> LayerPlans:
        """See `Method`."""
        space = replace(self.space(calibration, seed), rounds=self.rounds())
        return plan_low_rank(model, calibration, limits, space)

    def factor_layer(
        self, model: nn.Module, layer: Layer, calibration: Calibration, structure: Structure
    ) -> tuple[float, State]:
        """See `Method`."""
        return factor_low_rank(model, layer, calibration, self.loss_weighting(), structure, self.rounds())
