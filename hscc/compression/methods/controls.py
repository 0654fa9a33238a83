"""Controls: what HSCC would be with one of its ideas taken away, at the same budgets and by the same allocation."""

from __future__ import annotations

from dataclasses import dataclass

from hscc.calibration.collect import Calibration
from hscc.compression.clusters import CoActivation, ContiguousGroups, GlobalCoActivation, RandomGroups
from hscc.compression.methods.base import Searched
from hscc.compression.methods.hscc import AUTO_LINEAR, HSCC
from hscc.compression.regions import RandomCells
from hscc.compression.space import TOGETHER, WHOLE, Measure, SearchSpace


@dataclass(frozen=True)
class _Control(Searched):
    shrinkage: float = 0.3
    rank_multiple: int = 8

    def measure(self) -> Measure:
        """See `Searched`."""
        return Measure("output", self.shrinkage)


@dataclass(frozen=True)
class ALDS(_Control):
    """Contiguous equal channel groups without regions, after ALDS (Liebenwein et al., NeurIPS 2021).

    The original decomposes weights alone and minimises the largest layer error; here only its groups are taken, so that
    what differs from HSCC is where the channels are cut.

    Attributes
    ----------
    groups : tuple of int
        Numbers of groups to choose from a layer at a time.
    """

    groups: tuple[int, ...] = (1, 2, 4, 8)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        groupings = tuple(TOGETHER if count == 1 else ContiguousGroups(count) for count in self.groups)
        return SearchSpace((WHOLE,), groupings, self.measure(), self.rank_multiple)


@dataclass(frozen=True)
class GlobalGroups(_Control):
    """Co-activation clusters of the whole layer, no regions."""

    clusters: tuple[int, ...] = (1, 4)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        groupings = tuple(TOGETHER if count == 1 else GlobalCoActivation(count, seed) for count in self.clusters)
        return SearchSpace((WHOLE,), groupings, self.measure(), self.rank_multiple)


@dataclass(frozen=True)
class RandomChannels(_Control):
    """HSCC's regions, with channels grouped at random instead of by co-activation."""

    clusters: tuple[int, ...] = (1, 4)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        groupings = tuple(TOGETHER if count == 1 else RandomGroups(count, seed) for count in self.clusters)
        return SearchSpace(HSCC().partitions(), groupings, self.measure(), self.rank_multiple, AUTO_LINEAR)


@dataclass(frozen=True)
class RandomRegions(_Control):
    """HSCC's channel clusters, with cells dealt to regions at random instead of by place."""

    regions: tuple[int, ...] = (1, 2, 4)
    clusters: tuple[int, ...] = (1, 4)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        groupings = tuple(TOGETHER if count == 1 else CoActivation(count, seed) for count in self.clusters)
        partitions = tuple(WHOLE if count == 1 else RandomCells(count, seed) for count in self.regions)
        return SearchSpace(partitions, groupings, self.measure(), self.rank_multiple, AUTO_LINEAR)
