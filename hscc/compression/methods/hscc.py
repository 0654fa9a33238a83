"""Hierarchical Spatio-Channel Clustering (arXiv 2604.23375), as this project reads it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from hscc.calibration.collect import Calibration
from hscc.compression.low_rank import SearchSpace, co_activation, plan_low_rank
from hscc.compression.methods.base import LayerPlans


@dataclass(frozen=True)
class HSCC:
    """Regions of positions, clusters of co-active channels inside each, a rank for each cluster.

    Every layer gets the structure with the smallest loss for its cost among all combinations of `regions` and
    `clusters`; one region and one cluster (adaptive Global SVD) and the dense layer are among them.

    Attributes
    ----------
    regions : tuple of (int, int)
        Grids of regions to choose from, rows by columns. Bands of rows are the default: tiles lose less for the same
        MACs but take more slices and joins.
    clusters : tuple of int
        Numbers of channel clusters a region to choose from.
    shrinkage : float
        How far a region's output sensitivity is drawn towards its layer's, 0 to 1.
    rank_multiple : int
        Ranks come in multiples of this, the SIMD width.
    """

    regions: tuple[tuple[int, int], ...] = ((1, 1), (2, 1), (4, 1))
    clusters: tuple[int, ...] = (1, 4)
    shrinkage: float = 0.3
    rank_multiple: int = 8

    def plan_layers(self, model: nn.Module, calibration: Calibration, limit: int, seed: int) -> LayerPlans:
        """See `hscc.compression.methods.base.Method`."""
        space = SearchSpace(self.regions, self.clusters, co_activation(seed), self.shrinkage, self.rank_multiple)
        return plan_low_rank(model, calibration, limit, space)
