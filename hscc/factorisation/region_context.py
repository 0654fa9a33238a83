"""A layer as its factors see it, region by region: weight, moments and norm, of its inputs or behind a projection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.calibration.moments import LayerMoments, RegionMoments, region_moments
from hscc.factorisation.factors import dense_outputs, output_energy
from hscc.factorisation.projection import (
    ProjectedMoments,
    behind,
    channel_directions,
    project_moments,
    projection_ranks,
)
from hscc.factorisation.spectra import Measure, Norm, region_norm, shrink_sensitivity
from hscc.partitions.clusters import Correlation, channel_correlation
from hscc.partitions.regions import region_cells
from hscc.structures.structure import Structure, Tiles

_T = TypeVar("_T")
WHOLE_TILES: Tiles = ((0, 1, 0, 1),)


@dataclass(frozen=True)
class Place:
    """A region with what its factors need.

    Attributes
    ----------
    tiles : Tiles
        Where it is.
    weight : Tensor, shape (C_out, d)
        What is factored: the dense weight, or its best stand-in behind a projection.
    offset : Tensor, shape (C_out,) or None
        What the bias must add for a stand-in.
    seen : RegionMoments
        Of the inputs that the weight takes.
    norm : Norm
        Of the region's outputs.
    outputs : Tensor
        Of the weight, in the form that `hscc.factorisation.spectra.spectrum` takes.
    energy : float
        Of those outputs, a position; see `hscc.factorisation.factors.output_energy`.
    lost : float
        What the projection loses, a position.
    """

    tiles: Tiles
    weight: torch.Tensor
    offset: torch.Tensor | None
    seen: RegionMoments
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


class Places:
    """A layer's regions in the making: what several structures share is computed once, when it is first asked for.

    Parameters
    ----------
    model : nn.Module
        The dense network.
    layer : Layer
        One of the calibration's.
    calibration : Calibration
        Of that network.
    measure : Measure
        How losses are measured.
    """

    def __init__(self, model: nn.Module, layer: Layer, calibration: Calibration, measure: Measure) -> None:
        self.layer, self.measure, self.images = layer, measure, calibration.images
        self.moments = calibration.moments[layer.name]
        self.model = model
        self.shared: dict[object, object] = {}
        self.latest: tuple[object, list[Place]] = (None, [])

    def once(self, key: object, make: Callable[[], _T]) -> _T:
        """Return what `make` gave the first time this key was asked for."""
        if key not in self.shared:
            self.shared[key] = make()
        return self.shared[key]  # type: ignore[return-value]

    @property
    def weight(self) -> torch.Tensor:
        """See `dense_weight`."""
        return self.once("weight", lambda: dense_weight(self.model, self.layer))

    @property
    def whole(self) -> RegionMoments:
        """See `whole_layer`."""
        return self.once("whole", lambda: whole_layer(self.moments, self.images))

    def projected(self, projection: int) -> ProjectedMoments:
        """Return the layer's moments behind at least so many directions."""
        width = max(projection, *projection_ranks(self.layer.inputs))
        return self.once(("projected", width), lambda: self._project(width))

    def of_structure(self, structure: Structure, halved: bool = True) -> list[Place]:
        """Return the places of a structure's regions; `halved` as in `hscc.factorisation.spectra.region_norm`."""
        return self.of_regions([region.tiles for region in structure.regions], structure.projection, halved)

    def of_regions(self, regions: list[Tiles], projection: int, halved: bool = True) -> list[Place]:
        """Return the places of some regions, in their order.

        Only the last are kept: covariances of a wide layer's regions would fill the memory together.
        """
        key = (tuple(regions), projection, halved)
        if self.latest[0] != key:
            self.forget()
            # The first tile of a grid is written as the whole layer's only one; the grid has others.
            whole = regions == [WHOLE_TILES]
            self.latest = (key, [self._place(tiles, whole, projection, halved) for tiles in regions])
        return self.latest[1]

    def forget(self) -> None:
        """Let go of the latest regions' covariances; what is small or dear to compute stays."""
        self.latest = (None, [])

    def correlation(self) -> Correlation:
        """Correlation of the channels over the whole layer."""
        return self.once("correlation", lambda: correlation(self.layer, self.whole))

    def scale(self) -> float:
        """Return the factor that makes losses of different layers comparable.

        Without the output's weight a layer's own unit says nothing about the others', so it counts as a share of the
        layer's energy.
        """
        if self.measure.weighting == "output":
            return 1.0
        return self.once("scale", lambda: 1 / max(self._own_energy() * self.whole.positions, 1e-30))

    def _own_energy(self) -> float:
        if self.measure.weighting == "none":
            return float(self.weight.square().sum(dtype=torch.float64))
        identity = torch.eye(self.layer.outputs, dtype=self.weight.dtype)
        return output_energy(dense_outputs(self.weight, self.whole), self.whole, identity)

    def _place(self, tiles: Tiles, everywhere: bool, projection: int, halved: bool) -> Place:
        seen = self.whole if everywhere else regional_moments(self.moments, tiles, self.images)
        norm = region_norm(seen, self.whole.sensitivity, self.measure.weighting, self.measure.shrinkage, halved)
        outputs = self.once(("outputs", tiles, everywhere), lambda: dense_outputs(self.weight, seen))
        if not projection:
            energy = output_energy(outputs, seen, norm.sensitivity)
            return Place(tiles, self.weight, None, seen, norm, outputs, energy)
        cells = range(len(self.moments.count)) if everywhere else region_cells(tiles, self.moments.cells)
        part = behind(self.projected(projection), projection, cells, seen, self.weight, outputs)
        predicted = dense_outputs(part.weight, part.seen)
        energy = output_energy(predicted, part.seen, norm.sensitivity)
        lost = max(float((norm.sensitivity * part.residual).sum(dtype=torch.float64)), 0.0)
        return Place(tiles, part.weight, part.offset, part.seen, norm, predicted, energy, lost)

    def _project(self, width: int) -> ProjectedMoments:
        covariance, sensitivity = self.whole.covariance, self.whole.sensitivity
        assert covariance is not None
        counted = shrink_sensitivity(sensitivity, sensitivity, 0.0)
        if self.measure.weighting != "output":
            counted = torch.eye(self.layer.outputs, dtype=self.weight.dtype)
        directions = channel_directions(self.weight, covariance, counted, self.layer.taps)
        return project_moments(self.moments, self.weight, directions[:width].contiguous())


def correlation(layer: Layer, region: RegionMoments) -> Correlation:
    """Correlation of a convolution's input channels over a region."""
    assert region.covariance is not None
    return channel_correlation(region.covariance, layer.inputs)
