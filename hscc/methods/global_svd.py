"""Global SVD: the whole layer as one cluster. The paper's baseline, and the control of regions and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from hscc.budgets.resources import Limit
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.factorisation.spectra import LossWeighting
from hscc.search.low_rank import LayerPlans, factor_low_rank, plan_low_rank
from hscc.search.space import SINGLE_CLUSTER, SINGLE_REGION, SearchSpace
from hscc.search.uniform import plan_uniform, svd_layer, svd_structure
from hscc.structures.base import State, Structure
from hscc.structures.low_rank import LowRank


@dataclass(frozen=True)
class GlobalSVD:
    """Singular value decomposition of each layer's weight, without regions or clusters.

    Attributes
    ----------
    adaptive : bool
        False: one rank ratio for all layers and weights only, as in the paper. True: ranks chosen under the
        budget in the same weighted norm as HSCC, the control that isolates what regions and clusters add.
    shrinkage, rank_multiple
        As in `HSCC`; only the adaptive form uses them.
    """

    adaptive: bool = False
    shrinkage: float = 0.3
    rank_multiple: int = 8

    def plan_layers(self, model: nn.Module, calibration: Calibration, limits: Sequence[Limit], seed: int) -> LayerPlans:
        """See `hscc.methods.base.Method`."""
        if self.adaptive:
            space = SearchSpace((SINGLE_REGION,), (SINGLE_CLUSTER,), self._loss_weighting(), self.rank_multiple)
            return plan_low_rank(model, calibration, limits, space)
        return plan_uniform(model, calibration, limits, svd_structure, self.factor_layer)

    def factor_layer(
        self, model: nn.Module, layer: Layer, calibration: Calibration, structure: Structure
    ) -> tuple[float, State]:
        """See `hscc.methods.base.Method`."""
        if self.adaptive:
            return factor_low_rank(model, layer, calibration, self._loss_weighting(), structure)
        assert isinstance(structure, LowRank)
        return svd_layer(model, layer, calibration, structure)

    def _loss_weighting(self) -> LossWeighting:
        return LossWeighting("output", self.shrinkage)
