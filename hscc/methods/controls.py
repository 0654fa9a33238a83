"""Controls: what HSCC would be with one of its ideas taken away, at the same budgets and by the same allocation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from hscc.budgets.resources import Limit
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.factorisation.region_context import LayerContext
from hscc.factorisation.spectra import LossWeighting
from hscc.methods.base import Searched
from hscc.methods.hscc import AUTO_LINEAR, HSCC
from hscc.partitions.clusters import CoActivation, ContiguousGroups, GlobalCoActivation, RandomGroups
from hscc.partitions.regions import RandomCells
from hscc.search.candidates import Option, TermsOption, layer_options
from hscc.search.low_rank import LayerPlans
from hscc.search.space import SINGLE_CLUSTER, SINGLE_REGION, SearchSpace
from hscc.search.uniform import plan_uniform
from hscc.structures.base import Structure
from hscc.structures.low_rank import LowRank


@dataclass(frozen=True)
class _Control(Searched):
    shrinkage: float = 0.3
    rank_multiple: int = 8

    def loss_weighting(self) -> LossWeighting:
        """See `Searched`."""
        return LossWeighting("output", self.shrinkage)


@dataclass(frozen=True)
class ALDS(_Control):
    """Contiguous equal channel groups without regions, after ALDS (Liebenwein et al., NeurIPS 2021).

    The original decomposes weights alone and minimises the largest layer error; here only its groups are taken, so that
    what differs from HSCC is where the channels are cut.

    Attributes
    ----------
    groups : tuple of int
        Numbers of groups to choose from, layer by layer.
    """

    groups: tuple[int, ...] = (1, 2, 4, 8)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        groupings = tuple(SINGLE_CLUSTER if count == 1 else ContiguousGroups(count) for count in self.groups)
        return SearchSpace((SINGLE_REGION,), groupings, self.loss_weighting(), self.rank_multiple)


@dataclass(frozen=True)
class GlobalGroups(_Control):
    """Co-activation clusters of the whole layer, no regions."""

    clusters: tuple[int, ...] = (1, 4)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        groupings = tuple(SINGLE_CLUSTER if count == 1 else GlobalCoActivation(count, seed) for count in self.clusters)
        return SearchSpace((SINGLE_REGION,), groupings, self.loss_weighting(), self.rank_multiple)


@dataclass(frozen=True)
class RandomChannels(_Control):
    """HSCC's regions, with channels grouped at random instead of by co-activation."""

    clusters: tuple[int, ...] = (1, 4)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        groupings = tuple(SINGLE_CLUSTER if count == 1 else RandomGroups(count, seed) for count in self.clusters)
        return SearchSpace(HSCC().partitions(), groupings, self.loss_weighting(), self.rank_multiple, AUTO_LINEAR)


@dataclass(frozen=True)
class RandomRegions(_Control):
    """HSCC's channel clusters, with cells assigned to regions at random instead of by position."""

    regions: tuple[int, ...] = (1, 2, 4)
    clusters: tuple[int, ...] = (1, 4)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        groupings = tuple(SINGLE_CLUSTER if count == 1 else CoActivation(count, seed) for count in self.clusters)
        partitions = tuple(SINGLE_REGION if count == 1 else RandomCells(count, seed) for count in self.regions)
        return SearchSpace(partitions, groupings, self.loss_weighting(), self.rank_multiple, AUTO_LINEAR)


@dataclass(frozen=True)
class UniformRanks(HSCC):
    """HSCC's regions and clusters, with one share of its ranks for every cluster of every layer.

    The structures are those that HSCC chooses under the same budget; what differs is that no cluster gets more of its
    ranks than another.
    """

    projection: int | Literal["auto"] | None = None

    def plan_layers(self, model: nn.Module, calibration: Calibration, limits: Sequence[Limit], seed: int) -> LayerPlans:
        """See `hscc.methods.base.Method`."""
        chosen, _ = super().plan_layers(model, calibration, limits, seed)
        space = self.space(calibration, seed)
        full = {
            entry.layer.name: full_ranks(
                layer_options(LayerContext(model, entry.layer, calibration, space.weighting), calibration, space),
                entry.structure,
            )
            for entry in chosen
        }

        def at_ratio(layer: Layer, ratio: float) -> Structure:
            return share_of_ranks(full[layer.name], ratio)

        return plan_uniform(model, calibration, limits, at_ratio, self.factor_layer)


def full_ranks(options: Sequence[Option | TermsOption], structure: Structure) -> Structure:
    """Give every cluster of a structure all the ranks that the calibration can distinguish."""
    if not isinstance(structure, LowRank):
        return structure
    unranked = structure.with_ranks([[0] * len(region.blocks) for region in structure.regions])
    saved = iter(
        [
            found
            for option in options
            if isinstance(option, Option) and option.structure == unranked
            for found in option.saved
        ]
    )
    return structure.with_ranks([[len(next(saved)) for _ in region.blocks] for region in structure.regions])


def share_of_ranks(full: Structure, ratio: float) -> Structure:
    """Leave every cluster the same share, 0 to 1, of its ranks, and at least one."""
    if not isinstance(full, LowRank):
        return full
    return full.with_ranks([[max(1, round(ratio * block.rank)) for block in region.blocks] for region in full.regions])
