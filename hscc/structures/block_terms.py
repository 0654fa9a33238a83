"""Block terms: several projections of the channels with a core each, and one decoder (De Lathauwer, 2008).

Clusters *behind* the projection. All terms have the same size, so the module is three plain convolutions, the middle
one grouped: C_in -> g r (1 x 1), g r -> g s (k x k in g groups), g s -> C_out (1 x 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hscc.calibration.layers import Layer
from hscc.structures.base import Structure, whole_tiles
from hscc.structures.low_rank import Block, LowRank, Region

_COUNTS = (1, 2, 4, 6)  # numbers of terms that are timed


@dataclass(frozen=True)
class BlockTerms(LowRank):
    """A projection whose directions are divided into equal groups, each with a rank of its own in every region.

    A plan stores it as the low-rank structure that it is, under its own kind. `block_terms` makes one.
    """

    kind: ClassVar[str] = "block_terms"

    @property
    def terms(self) -> int:
        """Number of terms g."""
        return len(self.regions[0].blocks)

    @property
    def directions(self) -> int:
        """Directions r of the channels that one term reads."""
        return self.projection // self.terms

    @property
    def term_rank(self) -> int:
        """Outputs s of one term's core."""
        return self.regions[0].blocks[0].rank

    def with_terms(self, terms: int) -> BlockTerms:
        """Return a structure with another number of terms of the same size."""
        axes = len(self.regions[0].tiles[0]) // 2
        return block_terms(terms, self.directions, self.term_rank, axes)

    def describe(self) -> str:
        """See `Structure`."""
        plural = "" if self.terms == 1 else "s"
        return f"{self.terms} block term{plural} of {self.directions} directions"

    def ranks_text(self) -> str:
        """See `Structure`."""
        return f"{self.terms}x{self.term_rank}"

    def timing_key(self) -> list[Any]:
        """See `Structure`: the size of a term; the time is a line over their number."""
        return [self.kind, self.directions, self.term_rank]

    def rank_levels(self, layer: Layer) -> list[tuple[int, Structure]]:
        """See `Structure`: numbers of terms that cost less than the dense layer."""
        affordable = max(2, layer.macs // max(self.with_terms(1).macs(layer), 1))
        counts = sorted({min(count, affordable) for count in _COUNTS})
        return [(count, self.with_terms(count)) for count in counts]

    def mean_rank(self, layer: Layer) -> float:
        """See `Structure`: the number of terms."""
        return self.terms


def block_terms(terms: int, directions: int, rank: int, axes: int = 2) -> BlockTerms:
    """Equal block terms for the whole layer.

    Parameters
    ----------
    terms : int
        How many.
    directions : int
        Of the input channels, for each.
    rank : int
        Outputs of each core.
    axes : int
        Dimensions of the layer's grid.
    """
    blocks = tuple(Block(tuple(range(j * directions, (j + 1) * directions)), rank) for j in range(terms))
    return BlockTerms(1, (Region(whole_tiles(axes), blocks),), projection=terms * directions)
