"""What the factors of a layer are computed from, region by region: weight, moments and norm, projected or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.calibration.moments import LayerMoments, RegionMoments, region_moments
from hscc.factorisation.factors import dense_outputs, output_energy
from hscc.factorisation.joint import JointFit
from hscc.factorisation.projection import (
    ProjectedMoments,
    channel_directions,
    project_moments,
    project_region,
    projection_ranks,
)
from hscc.factorisation.spectra import LossWeighting, Norm, region_norm, shrink_sensitivity
from hscc.partitions.clusters import Correlation, channel_correlation
from hscc.partitions.regions import region_cells
from hscc.structures.base import WHOLE_TILES, Tiles
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
    outputs : Tensor
        Of the weight, in the form that `hscc.factorisation.spectra.spectrum` takes.
    energy : float
        Of those outputs, per position; see `hscc.factorisation.factors.output_energy`.
    lost : float
        Loss of the projection, per position.
    """

    tiles: Tiles
    weight: torch.Tensor
    offset: torch.Tensor | None
    moments: RegionMoments
    norm: Norm
    outputs: torch.Tensor
    energy: float
    lost: float = 0.0


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


def regional_moments(moments: LayerMoments, tiles: Tiles, images: int) -> RegionMoments:
    """Moments of a region, given in cells of the layer's own fine grid."""
    return region_moments(moments, region_cells(tiles, moments.cells), images)


class LayerContext:
    """What the factors of a layer are computed from; what several structures share is computed once, on first use.

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
    """

    def __init__(self, model: nn.Module, layer: Layer, calibration: Calibration, weighting: LossWeighting) -> None:
        self.layer, self.weighting, self.images = layer, weighting, calibration.images
        self.moments = calibration.moments[layer.name]
        self.model, self.cache = model, calibration.cache
        self._shared: dict[object, object] = {}
        self._latest: tuple[object, list[RegionContext]] = (None, [])

    def once(self, key: object, make: Callable[[], _T]) -> _T:
        """Return what `make` gave on the first call with this key."""
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]  # type: ignore[return-value]

    @property
    def weight(self) -> torch.Tensor:
        """See `dense_weight`."""
        return self.once("weight", lambda: dense_weight(self.model, self.layer))

    @property
    def whole(self) -> RegionMoments:
        """See `whole_layer`."""
        return self.once("whole", lambda: whole_layer(self.moments, self.images))

    def projected(self, projection: int) -> ProjectedMoments:
        """Return the layer's moments after a projection to at least so many directions."""
        width = max(projection, *projection_ranks(self.layer.inputs))
        return self.once(("projected", width), lambda: self._project(width))

    def joint_fit(self) -> JointFit:
        """Return the problem of fitting all factors of the whole layer together."""
        return self.once("joint fit", self._joint_fit)

    def of_structure(self, structure: LowRank, halved: bool = True) -> list[RegionContext]:
        """Return the contexts of a structure's regions; `halved` as in `hscc.factorisation.spectra.region_norm`."""
        return self.of_regions([region.tiles for region in structure.regions], structure.projection, halved)

    def of_regions(self, regions: list[Tiles], projection: int, halved: bool = True) -> list[RegionContext]:
        """Return the contexts of some regions, in their order.

        Only the last are kept: covariances of a wide layer's regions would fill the memory together.
        """
        key = (tuple(regions), projection, halved)
        if self._latest[0] != key:
            self.forget()
            # The first tile of a grid is written as the whole layer's only one; the grid has others.
            whole = regions == [WHOLE_TILES]
            self._latest = (key, [self._region(tiles, whole, projection, halved) for tiles in regions])
        return self._latest[1]

    def of_directions(self, regions: list[Tiles], matrix: torch.Tensor, halved: bool = False) -> list[RegionContext]:
        """Return the contexts of some regions behind a projection of one's own.

        Parameters
        ----------
        regions : list of Tiles
            Of output positions.
        matrix : Tensor, shape (r, C_in)
            Directions of the input channels.
        halved : bool
            As in `of_structure`.
        """
        projected = project_moments(self.moments, self.weight, matrix)
        whole = regions == [WHOLE_TILES]
        return [self._behind(projected, len(matrix), *self._dense(tiles, whole, halved)) for tiles in regions]

    def forget(self) -> None:
        """Drop the latest regions' covariances; what is small or slow to compute stays."""
        self._latest = (None, [])

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

    def _own_energy(self) -> float:
        if self.weighting.by == "none":
            return float(self.weight.square().sum(dtype=torch.float64))
        identity = torch.eye(self.layer.outputs, dtype=self.weight.dtype)
        return output_energy(dense_outputs(self.weight, self.whole), self.whole, identity)

    def _region(self, tiles: Tiles, everywhere: bool, projection: int, halved: bool) -> RegionContext:
        dense, cells = self._dense(tiles, everywhere, halved)
        return self._behind(self.projected(projection), projection, dense, cells) if projection else dense

    def _dense(self, tiles: Tiles, everywhere: bool, halved: bool) -> tuple[RegionContext, Sequence[int]]:
        """Context of a region without a projection, and the region's cells."""
        moments = self.whole if everywhere else regional_moments(self.moments, tiles, self.images)
        norm = region_norm(moments, self.whole.sensitivity, self.weighting.by, self.weighting.shrinkage, halved)
        outputs = self.once(("outputs", tiles, everywhere), lambda: dense_outputs(self.weight, moments))
        energy = output_energy(outputs, moments, norm.sensitivity)
        cells = range(len(self.moments.count)) if everywhere else region_cells(tiles, self.moments.cells)
        return RegionContext(tiles, self.weight, None, moments, norm, outputs, energy), cells

    def _behind(
        self, projected: ProjectedMoments, projection: int, dense: RegionContext, cells: Sequence[int]
    ) -> RegionContext:  # fmt: skip
        """Context of a region behind a projection."""
        part = project_region(projected, projection, cells, dense.moments, self.weight, dense.outputs)
        norm = dense.norm
        predicted = dense_outputs(part.weight, part.moments)
        energy = output_energy(predicted, part.moments, norm.sensitivity)
        lost = max(float((norm.sensitivity * part.residual).sum(dtype=torch.float64)), 0.0)
        return RegionContext(dense.tiles, part.weight, part.offset, part.moments, norm, predicted, energy, lost)

    def _joint_fit(self) -> JointFit:
        covariance, weighting = self.whole.covariance, self.weighting
        assert covariance is not None
        norm = region_norm(self.whole, self.whole.sensitivity, weighting.by, weighting.shrinkage, halved=False)
        return JointFit(self.weight, covariance, norm.sensitivity, self.layer.taps)

    def _project(self, width: int) -> ProjectedMoments:
        covariance, sensitivity = self.whole.covariance, self.whole.sensitivity
        assert covariance is not None
        counted = shrink_sensitivity(sensitivity, sensitivity, 0.0)
        if self.weighting.by != "output":
            counted = torch.eye(self.layer.outputs, dtype=self.weight.dtype)
        directions = channel_directions(self.weight, covariance, counted, self.layer.taps)
        return project_moments(self.moments, self.weight, directions[:width].contiguous())


def correlation(layer: Layer, region: RegionMoments) -> Correlation:
    """Correlation of a convolution's input channels over a region."""
    assert region.covariance is not None
    return channel_correlation(region.covariance, layer.inputs)
