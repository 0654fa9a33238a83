"""What a search may choose from, and how it weights losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hscc.calibration.layers import Layer
from hscc.factorisation.projection import REGIONAL_SHARES
from hscc.factorisation.spectra import LossWeighting
from hscc.partitions.clusters import ContiguousGroups, Grouping
from hscc.partitions.regions import Grid, Partition

WIDE_LINEAR = 1024
SINGLE_REGION = Grid(1, 1)
SINGLE_CLUSTER = ContiguousGroups(1)


@dataclass(frozen=True)
class SearchSpace:
    """Structures to choose from: every partition with every grouping.

    Attributes
    ----------
    partitions : tuple of Partition
        Of output positions; for a linear layer after a flattened feature map, of its input positions.
    groupings : tuple of Grouping
        Of channels inside a region.
    weighting : LossWeighting
        How losses are measured in choosing among them.
    multiple : int
        Ranks come in multiples of this, one by one in clusters narrower than four multiples.
    linear : tuple of (Partition, Grouping)
        What linear layers choose from instead, if not empty; of more than `WIDE_LINEAR` outputs only the first, since
        each block is an eigenproblem of all outputs.
    projections : tuple of int or "auto"
        Numbers of directions to try for undivided channels of layers with several taps; "auto" for those of
        `hscc.factorisation.projection.projection_ranks`, empty for none.
    regional_shares : tuple of float
        Shares of the channels that projections "auto" tries with several regions. Where a cost model has
        ``cheap_regions``, as a runtime does for which a region is only an index, a search tries those of a single
        region.
    terms : tuple of (int, int) or "auto"
        Directions and rank of a block term, for block terms of one size on layers with several taps; "auto" for the
        sizes of `hscc.search.candidates.term_sizes`, empty for none.
    rounds : int
        Most rounds of the joint refinement of the factors of a layer once its structure is chosen; 0 for none.
    """

    partitions: tuple[Partition, ...]
    groupings: tuple[Grouping, ...]
    weighting: LossWeighting
    multiple: int
    linear: tuple[tuple[Partition, Grouping], ...] = ()
    projections: tuple[int, ...] | Literal["auto"] = ()
    regional_shares: tuple[float, ...] = REGIONAL_SHARES
    terms: tuple[tuple[int, int], ...] | Literal["auto"] = ()
    rounds: int = 0

    def pairs(self, layer: Layer) -> list[tuple[Partition, Grouping]]:
        """Structures for a layer; grids that are the same for its number of dimensions once."""
        pairs = [(partition, grouping) for partition in self.partitions for grouping in self.groupings]
        if layer.kind == "linear" and self.linear:
            pairs = list(self.linear if layer.outputs <= WIDE_LINEAR else self.linear[:1])
        axes = len(layer.input_grid)
        seen = ((part.on(axes) if isinstance(part, Grid) else part, grouping) for part, grouping in pairs)
        return list(dict.fromkeys(seen))
