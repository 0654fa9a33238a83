"""The modules of compressed layers as operations of a program, whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import nn

from hscc.calibration.layers import Layer, tile_box
from hscc.engine.program import Array, Convolution, Linear, RegionWeights, Select, Shape, Triple
from hscc.engine.views import UnsupportedError, Values, View
from hscc.structures.low_rank import ClusteredConv, ClusteredLinear, ConstantRegion, RegionalConv

_GROUPING_GAIN = 0.8  # of the dense core's MACs: a grouped core costs a pass over the channels, and runs less well


def is_whole(module: nn.Module) -> bool:
    """Whether a module is a compressed layer that becomes one operation: a linear one or one of two dimensions."""
    if type(module) is ClusteredConv:
        return len(module.encoders[0].kernel_size) == 2  # type: ignore[arg-type]
    return type(module) is ClusteredLinear or (type(module) is RegionalConv and module.layer.axes == 2)


def output_sizes(module: nn.Module, sizes: Sequence[int]) -> list[int]:
    """Sizes of what such a module gives for an input of some sizes, the batch first."""
    if isinstance(module, ClusteredLinear):
        return [*sizes[:-1], module.decoder.out_features]  # type: ignore[list-item]
    if isinstance(module, ClusteredConv):
        encoder: nn.Conv2d = module.encoders[0]  # type: ignore[assignment]
        padding: tuple[int, int] = encoder.padding  # type: ignore[assignment]
        reached = [(k - 1) * d for k, d in zip(encoder.kernel_size, encoder.dilation, strict=True)]
        grid = [
            (n + 2 * p - far - 1) // step + 1
            for n, p, far, step in zip(sizes[2:], padding, reached, encoder.stride, strict=True)
        ]
        return [sizes[0], module.decoder.out_channels, *grid]  # type: ignore[list-item]
    assert isinstance(module, RegionalConv)
    return [sizes[0], module.layer.outputs, *_grid(module.layer, sizes[2:])]


def lower(values: Values, module: nn.Module, given: View, sizes: Sequence[int]) -> View:
    """Add the operations of a compressed layer.

    Parameters
    ----------
    values : Values
        The program that is being made.
    module : nn.Module
        For which `is_whole` holds.
    given : View
        Its input.
    sizes : sequence of int
        Of its output.

    Raises
    ------
    UnsupportedError
        If its padding repeats the image's border.
    """
    if isinstance(module, ClusteredLinear):
        return _linear(values, module, given, sizes)
    given, output = values.straight(given), values.new(sizes)
    if isinstance(module, RegionalConv):
        layer = module.layer
        if layer.padding_mode != "constant" and any(layer.padding):
            raise UnsupportedError(f"the padding mode {layer.padding_mode}")
        kernel, stride, dilation = layer.kernel, layer.stride, layer.dilation
        padding = (layer.padding[2], layer.padding[0])
        parts, index = list(module.regions), region_index(module, (sizes[2], sizes[3]))
    else:
        assert isinstance(module, ClusteredConv)
        encoder: nn.Conv2d = module.encoders[0]  # type: ignore[assignment]
        kernel, stride, dilation = encoder.kernel_size, encoder.stride, encoder.dilation
        padding = encoder.padding  # type: ignore[assignment]
        parts, index = [module], None
    channels = values.shape(given).channels
    factors = [None if isinstance(part, ConstantRegion) else _Factors.of(part, channels) for part in parts]
    shares = [1.0] * len(parts) if index is None else [float((index == number).sum()) for number in range(len(parts))]
    grouping = _Grouping.of(factors, shares, channels)
    biases = [_bias(part) for part in parts]
    regions = tuple(
        RegionWeights(None, None, bias) if part is None else part.weights(grouping, channels, kernel, bias)
        for part, bias in zip(factors, biases, strict=True)
    )
    value, permutation = given.value, None
    if grouping is not None:
        value, permutation = grouping.ordered(values, value)
    values.add(
        Convolution(
            (value,), output.value, _triple(kernel), _triple(stride), (0, *padding), _triple(dilation), regions,
            groups=1 if grouping is None else len(grouping.sizes), permutation=permutation, region_index=index,
        )
    )  # fmt: skip
    return output


def region_index(module: RegionalConv, grid: tuple[int, int]) -> np.ndarray | None:
    """Region of each output position, uint8 (1, rows, columns); None where there is one region."""
    if len(module.regions) == 1:
        return None
    if len(module.regions) > 256:
        raise UnsupportedError(f"{len(module.regions)} regions in a layer (at most 256)")
    index = np.zeros((1, *grid), np.uint8)
    for region, tile in module.tiles:
        top, bottom, left, right = tile_box(tile, grid, module.cells)
        index[0, top:bottom, left:right] = region
    return index


@dataclass(frozen=True)
class _Factors:
    """Encoders of clusters and their decoder, as arrays.

    Attributes
    ----------
    clusters : list of ndarray of int
        Input channels of each.
    encoders : list of ndarray, shape (rank, channels, taps)
    decoder : ndarray, shape (C_out, ranks)
    """

    clusters: list[np.ndarray]
    encoders: list[Array]
    decoder: Array

    @classmethod
    def of(cls, part: nn.Module, channels: int) -> _Factors:
        assert isinstance(part, ClusteredConv | ClusteredLinear)
        order = part.get_buffer("order").numpy() if part.permuted else np.arange(channels)
        edges = np.cumsum(part.sizes)[:-1]
        kernels = [_array(encoder.weight) for encoder in part.encoders]  # type: ignore[arg-type]
        if len(kernels) < len(part.sizes):  # one grouped convolution
            kernels = np.split(kernels[0], len(part.sizes))
        encoders = [kernel.reshape(*kernel.shape[:2], -1) for kernel in kernels]
        decoder = _array(part.decoder.weight)
        return cls(np.split(order, edges), encoders, decoder.reshape(decoder.shape[:2]))

    def weights(
        self, grouping: _Grouping | None, channels: int, kernel: Sequence[int], bias: Array
    ) -> RegionWeights:  # fmt: skip
        if grouping is not None:
            core, decoder = self.grouped(max(grouping.sizes))
            return RegionWeights(_spatial(core, kernel), decoder, bias)
        core = self.dense(channels)
        hidden, outputs = len(core), len(self.decoder)
        if hidden * (core[0].size + outputs) >= outputs * core[0].size:  # no fewer operations than multiplied out
            return RegionWeights(_spatial(np.tensordot(self.decoder, core, 1), kernel), None, bias)
        return RegionWeights(_spatial(core, kernel), self.decoder, bias)

    def dense(self, channels: int) -> Array:
        """One core of all input channels, with zeros where a rank does not belong to a channel's cluster."""
        core = np.zeros((self.decoder.shape[1], channels, self.encoders[0].shape[2]), np.float32)
        first = 0
        for cluster, encoder in zip(self.clusters, self.encoders, strict=True):
            core[first : first + len(encoder), cluster] = encoder
            first += len(encoder)
        return core

    def grouped(self, size: int) -> tuple[Array, Array]:
        """Core and decoder of equal groups: smaller clusters and ranks are filled up with zeros."""
        rank = max(len(encoder) for encoder in self.encoders)
        core = np.zeros((rank * len(self.encoders), size, self.encoders[0].shape[2]), np.float32)
        decoder = np.zeros((len(self.decoder), len(core)), np.float32)
        first = 0
        for number, encoder in enumerate(self.encoders):
            place = number * rank
            core[place : place + len(encoder), : encoder.shape[1]] = encoder
            decoder[:, place : place + len(encoder)] = self.decoder[:, first : first + len(encoder)]
            first += len(encoder)
        return core, decoder


@dataclass(frozen=True)
class _Grouping:
    """Clusters that all regions of a layer share, as the groups of one convolution.

    Attributes
    ----------
    clusters : list of ndarray of int
        Input channels of each.
    """

    clusters: list[np.ndarray]

    @property
    def sizes(self) -> list[int]:
        return [len(cluster) for cluster in self.clusters]

    @classmethod
    def of(cls, factors: Sequence[_Factors | None], shares: Sequence[float], channels: int) -> _Grouping | None:
        """Return the clusters if all regions have the same and groups cost less than a dense core with zeros."""
        present = [(part, share) for part, share in zip(factors, shares, strict=True) if part is not None]
        if not present:
            return None
        clusters = present[0][0].clusters
        same = all(
            len(part.clusters) == len(clusters)
            and all(np.array_equal(a, b) for a, b in zip(part.clusters, clusters, strict=True))
            for part, _ in present
        )
        if not same or len(clusters) == 1:
            return None
        size, taps = max(map(len, clusters)), present[0][0].encoders[0].shape[2]
        dense = grouped = 0.0
        for part, share in present:
            ranks = [len(encoder) for encoder in part.encoders]
            outputs = len(part.decoder)
            dense += share * sum(ranks) * (channels * taps + outputs)
            grouped += share * max(ranks) * len(ranks) * (size * taps + outputs)
        return cls(clusters) if grouped <= _GROUPING_GAIN * dense else None

    def ordered(self, values: Values, value: int) -> tuple[int, np.ndarray | None]:
        """Value and permutation by which the convolution reads each cluster's channels in a row."""
        size, shape = max(self.sizes), values.program.values[value]
        # What fills a smaller cluster up meets zeros: any channel will do.
        order = np.concatenate([np.resize(cluster, size) for cluster in self.clusters]).astype(np.int32)
        if sorted(order.tolist()) == list(range(shape.channels)):
            return value, None if np.array_equal(order, np.arange(shape.channels)) else order
        selected = values.program.value(Shape(len(order), *shape.grid))
        values.add(Select((value,), selected, order))
        return selected, None


def _linear(values: Values, module: ClusteredLinear, given: View, sizes: Sequence[int]) -> View:
    if len(given.sizes) != 2:
        raise UnsupportedError("clusters of a linear layer that runs at several positions")
    features = given.sizes[1]
    factors = _Factors.of(module, features)
    bias = _array(module.decoder.bias)
    grouping = _Grouping.of([factors], [1.0], features)
    output = values.new(sizes)
    if grouping is None:
        encoder = by_places(values, given, factors.dense(features)[:, :, 0])
        if len(encoder) * (encoder.shape[1] + len(bias)) >= len(bias) * encoder.shape[1]:
            values.add(Linear((given.value,), output.value, factors.decoder @ encoder, bias))
        else:
            values.add(Linear((given.value,), output.value, factors.decoder, bias, encoder))
        return output
    flat = values.straight(given)
    value, permutation = grouping.ordered(values, flat.value)
    region = factors.weights(grouping, features, (1, 1), bias)
    one = (1, 1, 1)
    values.add(
        Convolution(
            (value,), output.value, one, one, (0, 0, 0), one, (region,), groups=len(grouping.sizes),
            permutation=permutation,
        )
    )  # fmt: skip
    return output


def by_places(values: Values, given: View, weight: Array) -> Array:
    """Reorder the columns of a weight of a flattened view into the engine's order of the value behind it.

    Parameters
    ----------
    values : Values
        The program.
    given : View
        Of the sizes (batch, features).
    weight : ndarray, shape (outputs, features)

    Returns
    -------
    ndarray, shape (outputs, size of the value)
        Zero where the view does not read; in the order positions, channels.
    """
    shape = values.shape(given)
    if given.places is not None:
        places = values.of_one_image(given).numpy()
        if len(np.unique(places)) == len(places):
            spread = np.zeros((len(weight), shape.size), np.float32)
            spread[:, places] = weight
        else:  # some numbers are read twice
            spread = np.zeros((shape.size, len(weight)), np.float32)
            np.add.at(spread, places, weight.T)
            spread = spread.T
        weight = spread
    ordered = weight.reshape(len(weight), shape.channels, shape.positions).transpose(0, 2, 1)
    return np.ascontiguousarray(ordered).reshape(len(weight), -1)


def _grid(layer: Layer, sizes: Sequence[int]) -> list[int]:
    left, right, top, bottom = layer.padding
    return [
        (size + padding - far) // step + 1
        for size, padding, far, step in zip(sizes, (top + bottom, left + right), layer.reach, layer.stride, strict=True)
    ]


def _spatial(core: Array, kernel: Sequence[int]) -> Array:
    """(rows, channels, taps) to (rows, kd, kh, kw, channels)."""
    taps = core.transpose(0, 2, 1).reshape(len(core), *_triple(kernel), -1)
    assert prod(kernel) == core.shape[2]
    return np.ascontiguousarray(taps)


def _triple(pair: Sequence[int]) -> Triple:
    return (1, int(pair[0]), int(pair[1]))


def _bias(part: nn.Module) -> Array:
    return _array(part.bias if isinstance(part, ConstantRegion) else part.decoder.bias)  # type: ignore[union-attr, arg-type]


def _array(tensor: torch.Tensor | None) -> Array:
    assert tensor is not None
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)
