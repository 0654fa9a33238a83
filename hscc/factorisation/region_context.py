"""What the factors of a layer are computed from, region by region: weight, moments and norm, projected or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.calibration.moments import LayerMoments, RegionMoments, region_moments, together
from hscc.factorisation.factors import dense_outputs, output_energy
from hscc.factorisation.joint import JointFit
from hscc.factorisation.projection import (
    REGIONAL_SHARES,
    SHARES,
    ProjectedMoments,
    channel_directions,
    project_moments,
    project_region,
    projection_ranks,
)
from hscc.factorisation.spectra import LossWeighting, Norm, is_narrow, region_norm, shrink_sensitivity
from hscc.partitions.clusters import Correlation, channel_correlation
from hscc.partitions.regions import region_cells
from hscc.structures.base import Tiles, whole_tiles
from hscc.structures.low_rank import LowRank

_T = TypeVar("_T")


@dataclass(frozen=True)
class RegionContext:
    """What the factors of one region are computed from.

    Attributes
    ----------
    tiles : Tiles
        Its output positions.
    weight : Tensor, shape (C_out, d)
        What is factored: the dense weight, or its regression on the projected inputs.
    offset : Tensor, shape (C_out,) or None
        What the bias must add for such a regression.
    moments : RegionMoments
        Of the inputs that the weight takes.
    norm : Norm
        Of the region's outputs.
    outputs : Tensor or None
        Of the weight, in the form that `hscc.factorisation.spectra.spectrum` takes; None for a narrow weight, whose
        spectrum is solved on the side of its features.
    energy : float
        Of those outputs, per position; see `hscc.factorisation.factors.output_energy`.
    lost : float
        Loss of the projection, per position.
    weighted : Tensor or None
        ``outputs @ G`` (rows, C_out) of a single-position layer, G W (C_out, d) of a narrow one.
    """

    tiles: Tiles
    weight: torch.Tensor
    offset: torch.Tensor | None
    moments: RegionMoments
    norm: Norm
    outputs: torch.Tensor | None
    energy: float
    lost: float = 0.0
    weighted: torch.Tensor | None = None

    def known(self, columns: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return what `hscc.factorisation.spectra.spectrum` need not compute again for a cluster's features."""
        if len(columns) == self.weight.shape[1]:
            return self.outputs, self.weighted
        of_features = self.weighted is not None and self.moments.root is None
        return None, self.weighted[:, columns] if self.weighted is not None and of_features else None


def dense_weight(model: nn.Module, layer: Layer) -> torch.Tensor:
    """Weight of a layer, shape (C_out, d), on the CPU in at least float32."""
    weight = model.get_parameter(f"{layer.name}.weight").detach().cpu()
    return weight.reshape(layer.outputs, -1).to(torch.promote_types(weight.dtype, torch.float32))


def dense_bias(model: nn.Module, layer: Layer) -> torch.Tensor | None:
    """Bias of a layer, shape (C_out,), or None."""
    return model.get_parameter(f"{layer.name}.bias").detach().cpu() if layer.bias else None


def whole_layer(moments: LayerMoments, images: int) -> RegionMoments:
    """Moments of all positions of a layer."""
    return region_moments(moments, range(len(moments.count)), images)


def regional_moments(moments: LayerMoments, tiles: Tiles, images: int, covariance: bool = True) -> RegionMoments:
    """Moments of a region, given in cells of the layer's own fine grid; `covariance` as in `region_moments`."""
    return region_moments(moments, region_cells(tiles, moments.cells), images, covariance)


class LayerContext:
    """What the factors of a layer are computed from; what several structures share is computed once, on first use.

    Regions are unions of cells, so what is linear in the second moments is computed per cell and summed over regions.

    Parameters
    ----------
    model : nn.Module
        The dense network.
    layer : Layer
        One of the calibration's.
    calibration : Calibration
        Of that network.
    weighting : LossWeighting
        How losses are measured.
    regional : bool
        Whether structures with several regions will be asked for. Without them all cells are summed first.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: Layer,
        calibration: Calibration,
        weighting: LossWeighting,
        regional: bool = True,
    ) -> None:
        self.layer, self.weighting, self.images = layer, weighting, calibration.images
        moments = calibration.moments[layer.name]
        self.moments = moments if regional else together(moments)
        self.model, self.cache = model, calibration.cache
        self._shared: dict[object, object] = {}
        self._large: dict[object, object] = {}  # what `forget` drops
        self._latest: tuple[object, list[RegionContext]] = (None, [])

    def once(self, key: object, make: Callable[[], _T]) -> _T:
        """Return what `make` gave on the first call with this key."""
        return _once(self._shared, key, make)

    @property
    def weight(self) -> torch.Tensor:
        """See `dense_weight`."""
        return self.once("weight", lambda: dense_weight(self.model, self.layer))

    @property
    def whole(self) -> RegionMoments:
        """See `whole_layer`."""
        return self.once("whole", lambda: whole_layer(self.together, self.images))

    @property
    def together(self) -> LayerMoments:
        """The layer's sums over all cells."""
        return _once(self._large, "together", lambda: together(self.moments))

    def directions(self, projection: int) -> torch.Tensor:
        """Return at least so many directions of the input channels, the most important first; shape (r, C_in)."""
        return self._directions()[: max(projection, *projection_ranks(self.layer.inputs))].contiguous()

    def projected(self, projection: int, everywhere: bool) -> ProjectedMoments:
        """Return moments after a projection to at least so many directions: of the whole layer, or of each cell."""
        shares = SHARES if everywhere else REGIONAL_SHARES
        width = max(projection, *projection_ranks(self.layer.inputs, shares))
        return self.once(("projected", width, everywhere), lambda: self._project(width, everywhere))

    def joint_fit(self) -> JointFit:
        """Return the problem of fitting all factors of the whole layer together."""
        return self.once("joint fit", self._joint_fit)

    def of_structure(self, structure: LowRank) -> list[RegionContext]:
        """Return the contexts of a structure's regions."""
        return self.of_regions([region.tiles for region in structure.regions], structure.projection)

    def of_regions(self, regions: list[Tiles], projection: int, covariance: bool = True) -> list[RegionContext]:
        """Return the contexts of some regions, in their order.

        Only the last are kept: covariances of a wide layer's regions would fill the memory together. Without
        `covariance`, contexts that are not behind a projection may lack it; their `outputs` are there.
        """
        key = (tuple(regions), projection, covariance)
        if self._latest[0] != key:
            self._latest = (None, [])
            # The first tile of a grid is written as the whole layer's only one; the grid has others.
            whole = self._is_whole(regions)
            self._latest = (key, [self._region(tiles, whole, projection, covariance) for tiles in regions])
        return self._latest[1]

    def of_directions(self, regions: list[Tiles], matrix: torch.Tensor) -> list[RegionContext]:
        """Return the contexts of some regions behind a projection of one's own.

        Parameters
        ----------
        regions : list of Tiles
            Of output positions.
        matrix : Tensor, shape (r, C_in)
            Directions of the input channels.
        """
        whole = self._is_whole(regions)
        projected = project_moments(self._cells(whole), self._products_of(whole), matrix)
        return [
            self._behind(projected, len(matrix), whole, self._dense(tiles, whole, covariance=False))
            for tiles in regions
        ]

    def forget(self) -> None:
        """Drop what is large: the latest regions' covariances, the layer's sums and their products with the weight."""
        self._latest = (None, [])
        self._large.clear()

    def correlation(self) -> Correlation:
        """Correlation of the channels over the whole layer."""
        return self.once("correlation", lambda: correlation(self.layer, self.whole))

    def scale(self) -> float:
        """Return the factor that makes losses of different layers comparable.

        Where outputs are not weighted by their effect on the logits, each layer has a unit of its own, and losses count
        as shares of the layer's energy.
        """
        if self.weighting.by == "output":
            return 1.0
        return self.once("scale", lambda: 1 / max(self._own_energy() * self.whole.positions, 1e-30))

    def _is_whole(self, regions: list[Tiles]) -> bool:
        return regions == [whole_tiles(self.layer.axes)]

    def _own_energy(self) -> float:
        if self.weighting.by == "none":
            return float(self.weight.square().sum(dtype=torch.float64))
        identity = torch.eye(self.layer.outputs, dtype=self.weight.dtype)
        return output_energy(dense_outputs(self.weight, self.whole), self.whole, identity)

    def _region(self, tiles: Tiles, everywhere: bool, projection: int, covariance: bool) -> RegionContext:
        if not projection:
            if is_narrow(self.layer.features, self.layer.outputs) and self.layer.positions > 1:
                return self._narrow(tiles, everywhere)
            return self._dense(tiles, everywhere, covariance)
        dense = self._dense(tiles, everywhere, covariance=False)
        return self._behind(self.projected(projection, everywhere), projection, everywhere, dense)

    def _dense(self, tiles: Tiles, everywhere: bool, covariance: bool) -> RegionContext:
        """Context of a region without a projection."""
        moments = self.whole if everywhere else regional_moments(self.moments, tiles, self.images, covariance)
        # That of a single position is as wide as a linear layer's outputs: too large to keep.
        make = partial(self._norm, moments)
        norm = make() if moments.root is not None else self.once(("norm", tiles, everywhere), make)
        outputs = self.once(("outputs", tiles, everywhere), lambda: self._outputs(tiles, everywhere, moments))
        weighted = None
        if moments.root is not None:
            weighted = self.once(("weighted", tiles, everywhere), lambda: outputs @ norm.sensitivity)
        energy = self.once(
            ("energy", tiles, everywhere), lambda: output_energy(outputs, moments, norm.sensitivity, weighted)
        )  # fmt: skip
        return RegionContext(tiles, self.weight, None, moments, norm, outputs, energy, weighted=weighted)

    def _narrow(self, tiles: Tiles, everywhere: bool) -> RegionContext:
        """Context of a region of a layer with fewer features than outputs: the outputs' covariance is not needed."""
        moments = self.whole if everywhere else regional_moments(self.moments, tiles, self.images)
        covariance = moments.covariance
        assert covariance is not None
        norm = self._norm(moments)  # as wide as the outputs, and not what takes the time here: it is not kept
        weighted = norm.sensitivity @ self.weight
        energy = float((weighted * (self.weight @ covariance)).sum(dtype=torch.float64))
        return RegionContext(tiles, self.weight, None, moments, norm, None, energy, weighted=weighted)

    def _norm(self, moments: RegionMoments) -> Norm:
        return region_norm(moments, self.whole.sensitivity, self.weighting.by, self.weighting.shrinkage)

    def _outputs(self, tiles: Tiles, everywhere: bool, moments: RegionMoments) -> torch.Tensor:
        """See `hscc.factorisation.factors.dense_outputs`."""
        if everywhere or moments.root is not None or moments.positions == 0:
            return dense_outputs(self.weight, moments)
        index = torch.as_tensor(list(region_cells(tiles, self.moments.cells)))
        sums = self.once("cell outputs", lambda: self._products_of(False) @ self.weight.T)
        mean = self.weight @ moments.mean
        return (sums[index].sum(0) / int(self.moments.count[index].sum())).addr_(mean, mean, alpha=-1.0)

    def _cells(self, everywhere: bool) -> LayerMoments:
        return self.together if everywhere else self.moments

    def _products_of(self, everywhere: bool) -> torch.Tensor:
        """Weight times the sums of x x^T, of the whole layer or of each cell, shape (cells, C_out, d)."""
        second = self._cells(everywhere).second
        assert second is not None
        return _once(self._large, ("products", everywhere), lambda: self.weight @ second)

    def _behind(
        self, projected: ProjectedMoments, projection: int, everywhere: bool, dense: RegionContext
    ) -> RegionContext:  # fmt: skip
        """Context of a region behind a projection."""
        cells = range(len(projected.count)) if everywhere else region_cells(dense.tiles, self.moments.cells)
        assert dense.outputs is not None
        part = project_region(projected, projection, cells, dense.moments, self.weight, dense.outputs)
        norm = dense.norm
        energy = output_energy(part.outputs, part.moments, norm.sensitivity)
        lost = max(float((norm.sensitivity * part.residual).sum(dtype=torch.float64)), 0.0)
        return RegionContext(dense.tiles, part.weight, part.offset, part.moments, norm, part.outputs, energy, lost)

    def _joint_fit(self) -> JointFit:
        covariance = self.whole.covariance
        assert covariance is not None
        return JointFit(self.weight, covariance, self._norm(self.whole).sensitivity, self.layer.taps)

    def _directions(self) -> torch.Tensor:
        """All directions of the input channels, shape (C_in, C_in)."""

        def make() -> torch.Tensor:
            covariance, sensitivity = self.whole.covariance, self.whole.sensitivity
            assert covariance is not None
            counted = shrink_sensitivity(sensitivity, sensitivity, 0.0)
            if self.weighting.by != "output":
                counted = torch.eye(self.layer.outputs, dtype=self.weight.dtype)
            return channel_directions(self.weight, covariance, counted, self.layer.taps)

        return self.once("directions", make)

    def _project(self, width: int, everywhere: bool) -> ProjectedMoments:
        matrix = self._directions()[:width].contiguous()
        return project_moments(self._cells(everywhere), self._products_of(everywhere), matrix)


def _once(known: dict[object, object], key: object, make: Callable[[], _T]) -> _T:
    if key not in known:
        known[key] = make()
    return known[key]  # type: ignore[return-value]


def correlation(layer: Layer, region: RegionMoments) -> Correlation:
    """Correlation of a convolution's input channels over a region."""
    assert region.covariance is not None
    return channel_correlation(region.covariance, layer.inputs)
