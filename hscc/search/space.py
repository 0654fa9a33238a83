"""What a search may choose from, and how it measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hscc.factorisation.spectra import Measure
from hscc.partitions.clusters import ContiguousGroups, Grouping
from hscc.partitions.regions import Grid, Partition

WHOLE = Grid(1, 1)
TOGETHER = ContiguousGroups(1)


@dataclass(frozen=True)
class SearchSpace:
    """Structures to choose from: every partition with every grouping.

    Attributes
    ----------
    partitions : tuple of Partition
        Of output positions; for a linear layer after a flattened feature map, of its input positions.
    groupings : tuple of Grouping
        Of channels inside a region.
    measure : Measure
        How to choose among them.
    multiple : int
        Ranks come in multiples of this, one by one in clusters narrower than four multiples.
    linear : tuple of (Partition, Grouping)
        What linear layers choose from instead, if not empty.
    projections : tuple of int or "auto"
        Numbers of directions to try for undivided channels of layers with several taps; "auto" for those of
        `hscc.factorisation.projection.projection_ranks`, empty for none.
    """

    partitions: tuple[Partition, ...]
    groupings: tuple[Grouping, ...]
    measure: Measure
    multiple: int
    linear: tuple[tuple[Partition, Grouping], ...] = ()
    projections: tuple[int, ...] | Literal["auto"] = ()

    def pairs(self, kind: str) -> list[tuple[Partition, Grouping]]:
        """Structures for a layer of a kind, "conv" or "linear"."""
        if kind == "linear" and self.linear:
            return list(self.linear)
        return [(partition, grouping) for partition in self.partitions for grouping in self.groupings]
