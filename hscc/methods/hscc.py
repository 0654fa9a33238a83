"""Hierarchical Spatio-Channel Clustering (arXiv 2604.23375), as this project reads it, and as the paper states it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hscc.calibration.collect import Calibration
from hscc.errors import CompressionError
from hscc.factorisation.spectra import LossWeighting, Weighting
from hscc.methods.base import Searched, refinement_rounds
from hscc.partitions.clusters import CoActivation, Grouping, SimilarChannels
from hscc.partitions.regions import Grid, Merged, Partition, Superpixels
from hscc.search.space import SINGLE_CLUSTER, SINGLE_REGION, SearchSpace

Regions = int | str | tuple[int, ...]
Clusters = int | float | str

AUTO_REGIONS: tuple[Regions, ...] = ((1, 1), (2, 1), (4, 1), (2, 2), (4, 4))
AUTO_CLUSTERS: tuple[Clusters, ...] = (1, 4)
# Of a wide layer only the first: on AlexNet's classifier input regions were not chosen in any of 18 budgets.
AUTO_LINEAR = ((SINGLE_REGION, SINGLE_CLUSTER), (Grid(2, 2), SINGLE_CLUSTER))


@dataclass(frozen=True)
class HSCC(Searched):
    """Regions of positions, clusters of co-active channels inside each, a rank for each cluster.

    Every layer gets the structure with the smallest loss for its cost among all combinations of `regions` and
    `clusters`, the dense layer included. With one region and one cluster it is adaptive Global SVD.

    Attributes
    ----------
    regions : int, (int, int), "merged", "slic", "auto", or a tuple of these
        Regions per side, rows by columns, neighbouring cells merged by `region_similarity`, or superpixels. "auto"
        chooses for each layer among one region, 2 and 4 bands of rows, and 2 x 2 and 4 x 4 tiles. The regions of a
        linear layer that flattens a feature map are of its input; where there is a choice it is between one and 2 x 2,
        and one for more than 1,024 outputs. In three dimensions the first number is of the first axis and the second of
        both others (2 x 2 becomes 2 x 2 x 2), in one the first is of the only axis; three numbers for three axes stand
        in a tuple of grids, ``((4, 2, 1),)``.
    clusters : int, float, "auto", or a tuple of these
        Channel clusters a region: an int for so many equal ones, a float from 0 to 1 for as many as the threshold on
        their mean absolute correlation gives (the paper's rule). "auto" chooses between 1 and 4.
    projection : int, "auto", or None
        Directions of the input channels that a layer with several taps may be reduced to before its factors; see
        `hscc.factorisation.projection`. "auto" chooses among four numbers and none, None never does it.
    weighting : str
        What makes an output count: "output" its effect on the logits, "activation" its variance alone, "none" nothing
        (weights are decomposed as they are).
    shrinkage : float
        How far a region's output sensitivity is drawn towards its layer's, 0 to 1.
    rank_multiple : int
        Ranks come in multiples of this, the SIMD width.
    region_similarity : float
        Similarity of activity (0 to 1) above which "merged" joins neighbouring cells.
    superpixels : int
        Regions that "slic" looks for.
    terms : tuple of (int, int), "auto", or None
        Block terms, clusters behind the projection, as (directions, rank) of one: several projections with a core each
        and one decoder, see `hscc.factorisation.joint`. "auto" tries a few sizes where `clusters` and `projection` are
        "auto" too and one region is among `regions`; None never does it, which makes a plan several times faster.
    refine : bool or int
        Whether the factors behind a projection are refined together once a layer's structure is chosen; a number is
        that of the rounds. It doubles the time of a plan.

    Raises
    ------
    CompressionError
        If a field has a value outside these.
    """

    regions: Regions | tuple[Regions, ...] = "auto"
    clusters: Clusters | tuple[Clusters, ...] = "auto"
    projection: int | Literal["auto"] | None = "auto"
    weighting: Weighting = "output"
    shrinkage: float = 0.3
    rank_multiple: int = 8
    region_similarity: float = 0.8
    superpixels: int = 8
    terms: tuple[tuple[int, int], ...] | Literal["auto"] | None = None
    refine: bool | int = False

    def __post_init__(self) -> None:
        if self.weighting not in ("output", "activation", "none"):
            raise CompressionError(f"HSCC weighting={self.weighting!r} is unknown; take output, activation or none.")
        for name, value in (("shrinkage", self.shrinkage), ("region_similarity", self.region_similarity)):
            if not 0 <= value <= 1:
                raise CompressionError(f"HSCC {name}={value:g} is out of range; give a number from 0 to 1.")
        if self.projection not in ("auto", None) and not (isinstance(self.projection, int) and self.projection > 0):
            raise CompressionError(f"HSCC projection={self.projection!r} is neither a number of directions nor auto.")
        if self.superpixels < 1:
            raise CompressionError(f"HSCC superpixels={self.superpixels} is out of range; give 1 or more.")
        if self.rank_multiple < 1:
            raise CompressionError(f"HSCC rank_multiple={self.rank_multiple} is out of range; give 1 or more.")
        if self.terms not in ("auto", None) and not _is_list_of_sizes(self.terms):
            raise CompressionError(f"HSCC terms={self.terms!r} is neither auto nor a list of (directions, rank).")
        refinement_rounds(self.refine)
        self.partitions()
        self.groupings(seed=0)

    def space(self, calibration: Calibration, seed: int) -> SearchSpace:
        """See `Searched`."""
        partitions, groupings = self.partitions(), self.groupings(seed)
        single = len(partitions) == len(groupings) == 1 and not isinstance(self.clusters, float)
        linear = () if single else AUTO_LINEAR
        return SearchSpace(
            partitions, groupings, self.loss_weighting(), self.rank_multiple, linear, self.projections(),
            terms=self.term_sizes(),
        )  # fmt: skip

    def rounds(self) -> int:
        """See `Searched`."""
        return refinement_rounds(self.refine)

    def loss_weighting(self) -> LossWeighting:
        """See `Searched`."""
        return LossWeighting(self.weighting, self.shrinkage)

    def projections(self) -> tuple[int, ...] | Literal["auto"]:
        """Numbers of directions that `projection` names."""
        if self.projection is None:
            return ()
        return "auto" if self.projection == "auto" else (self.projection,)

    def term_sizes(self) -> tuple[tuple[int, int], ...] | Literal["auto"]:
        """Sizes of block terms that `terms` names."""
        if self.terms != "auto":
            return self.terms or ()
        free = self.clusters == self.projection == "auto" and SINGLE_REGION in self.partitions()
        return "auto" if free else ()

    def partitions(self) -> tuple[Partition, ...]:
        """Partitions of the positions that `regions` names."""
        if self.regions == "auto":
            named = AUTO_REGIONS
        else:
            named = self.regions if _is_list_of_regions(self.regions) else (self.regions,)  # type: ignore[assignment]
        return tuple(self._partition(regions) for regions in named)

    def groupings(self, seed: int) -> tuple[Grouping, ...]:
        """Groupings of the channels that `clusters` names."""
        named = AUTO_CLUSTERS if self.clusters == "auto" else self.clusters
        return tuple(_grouping(clusters, seed) for clusters in (named if isinstance(named, tuple) else (named,)))

    def _partition(self, regions: Regions) -> Partition:
        if regions == "merged":
            return Merged(self.region_similarity)
        if regions == "slic":
            return Superpixels(self.superpixels)
        sides = (regions,) if isinstance(regions, int) else regions
        if isinstance(sides, str) or not 1 <= len(sides) <= 3 or not all(isinstance(n, int) and n > 0 for n in sides):
            raise CompressionError(
                f"HSCC regions={regions!r} is not a partition; "
                "give a number per side, (rows, columns), merged, slic or auto."
            )
        return Grid(*sides)


def paper_preset() -> HSCC:
    """HSCC as the paper's text states it: a grid, a similarity threshold, activations, no weight on the outputs.

    The threshold is this low because channels of deep layers hardly fire together: at 0.5 the 384 channels of AlexNet's
    fourth convolution make 354 clusters, at 0.05 they make 44.
    """
    return HSCC(regions=2, clusters=0.05, projection=None, weighting="activation", rank_multiple=1)


def _is_list_of_regions(regions: object) -> bool:
    # (2, 1) is one grid; ((2, 1), (1, 1)) and (1, "merged", 4) are choices.
    return isinstance(regions, tuple) and not (len(regions) == 2 and all(isinstance(side, int) for side in regions))


def _is_list_of_sizes(terms: object) -> bool:
    return isinstance(terms, tuple) and all(
        isinstance(size, tuple) and len(size) == 2 and all(isinstance(number, int) and number > 0 for number in size)
        for size in terms
    )


def _grouping(clusters: Clusters, seed: int) -> Grouping:
    if isinstance(clusters, bool) or not isinstance(clusters, int | float) or clusters <= 0:
        raise CompressionError(f"HSCC clusters={clusters!r} is neither a number of clusters nor a threshold nor auto.")
    if isinstance(clusters, float):
        if clusters > 1:
            raise CompressionError(f"HSCC clusters={clusters:g} is no threshold; give an int, or a float up to 1.")
        return SimilarChannels(clusters)
    return SINGLE_CLUSTER if clusters == 1 else CoActivation(clusters, seed)
