"""Full rank reproduces every layer, whatever its geometry and structure."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.calibration.collect import calibrate
from hscc.calibration.layers import CONVOLUTIONS, Layer
from hscc.calibration.moments import LayerMoments
from hscc.factorisation.spectra import LossWeighting
from hscc.networks.cost import count_macs, count_parameters
from hscc.partitions.clusters import RandomGroups
from hscc.partitions.regions import Grid, Partition, RandomCells
from hscc.search.low_rank import factor_low_rank
from hscc.structures.low_rank import Block, LowRank, Region

SIZES = {1: (41,), 2: (17, 15), 3: (9, 7, 8)}
POOLINGS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


@st.composite
def geometry(draw: st.DrawFn) -> dict:
    axes = draw(st.sampled_from([1, 2, 2, 3]))
    most = 9 if axes < 3 else 4
    return {
        "inputs": draw(st.integers(2, most)),
        "outputs": draw(st.integers(2, most)),
        "kernel_size": draw(st.tuples(*[st.integers(1, 4 if axes < 3 and not axis else 3) for axis in range(axes)])),
        "stride": draw(st.integers(1, 3)),
        "padding": draw(st.sampled_from([0, 1, (2, 0, 1)[:axes]])),
        "dilation": draw(st.integers(1, 2)),
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "reflect"])),
    }


def _network(shape: dict) -> nn.Module:
    shape = dict(shape)
    axes = len(shape["kernel_size"])
    conv = CONVOLUTIONS[axes](shape.pop("inputs"), shape.pop("outputs"), **shape)
    head = nn.Linear(conv.out_channels, 3)
    return nn.Sequential(conv, POOLINGS[axes](1), nn.Flatten(), head).double().eval()


def _images(count: int, shape: dict) -> torch.Tensor:
    return torch.randn(count, shape["inputs"], *SIZES[len(shape["kernel_size"])], dtype=torch.float64)


def _full_rank(
    model: nn.Module,
    layer: Layer,
    calibration,
    partition: Partition,
    clusters: int,
    weighting: str = "output",
    projection: int = 0,
) -> nn.Module:
    moments = calibration.moments[layer.name]
    inputs = projection or layer.inputs
    groups = RandomGroups(clusters, 3).groups(np.eye(inputs), lambda: np.eye(inputs))
    tiles = partition.tiles(layer, moments)
    assert tiles is not None
    blocks = tuple(Block(group, min(layer.outputs, len(group) * layer.taps)) for group in groups)
    regions = tuple(Region(part, blocks) for part in tiles)
    structure = LowRank(moments.cells, regions, projection=projection)
    loss, state = factor_low_rank(model, layer, calibration, LossWeighting(weighting, 0.3), structure)
    module = structure.module(layer).double()
    module.load_state_dict(state)
    module.structure, module.loss = structure, loss
    return module


def _fitting(partition: Partition, layer: Layer, moments: LayerMoments) -> Partition:
    if isinstance(partition, Grid):
        return Grid(*(min(parts, moments.cells) for parts in partition.along(layer.axes)))
    return partition if len(moments.count) >= 3 else Grid(1, 1)


PARTITIONS = [Grid(1, 1), Grid(2, 2), Grid(3, 1), Grid(4, 4), RandomCells(3, 0)]


@settings(max_examples=25, deadline=None)
@given(
    geometry(),
    st.sampled_from(PARTITIONS),
    st.integers(1, 3),
    st.integers(0, 5),
    st.sampled_from(["output", "activation", "none"]),
)
def test_full_rank_reproduces_a_convolution(
    shape: dict, partition: Partition, clusters: int, seed: int, weighting: str
) -> None:
    torch.manual_seed(seed)
    model = _network(shape)
    images = _images(40, shape)
    calibration = calibrate(model, [images], cells=4)
    layer = calibration.layers[0]
    fitting = _fitting(partition, layer, calibration.moments[layer.name])
    module = _full_rank(model, layer, calibration, fitting, clusters, weighting)
    fresh = _images(3, shape)
    expected = model[0](fresh).detach()
    torch.testing.assert_close(module(fresh), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@settings(max_examples=20, deadline=None)
@given(geometry(), st.sampled_from(PARTITIONS), st.sampled_from(["output", "activation"]))
def test_full_rank_after_all_directions_reproduces_a_convolution(
    shape: dict, partition: Partition, weighting: str
) -> None:
    torch.manual_seed(1)
    model = _network(shape)
    images = _images(200, shape)
    calibration = calibrate(model, [images], cells=4)
    layer = calibration.layers[0]
    directions = layer.inputs
    fitting = _fitting(partition, layer, calibration.moments[layer.name])
    module = _full_rank(model, layer, calibration, fitting, 1, weighting, directions)
    fresh = _images(3, shape)
    expected = model[0](fresh).detach()
    torch.testing.assert_close(module(fresh), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert module.loss < 1e-6 * float(expected.square().sum())


@settings(max_examples=20, deadline=None)
@given(geometry(), st.sampled_from(PARTITIONS), st.integers(1, 3), st.integers(0, 2))
def test_structure_counts_what_the_module_does(
    shape: dict, partition: Partition, clusters: int, projection: int
) -> None:
    torch.manual_seed(0)
    model = _network(shape)
    calibration = calibrate(model, [_images(30, shape)], cells=4)
    layer = calibration.layers[0]
    clusters = 1 if projection else clusters  # directions are not clustered again
    fitting = _fitting(partition, layer, calibration.moments[layer.name])
    module = _full_rank(model, layer, calibration, fitting, clusters, projection=min(projection, layer.inputs))
    assert module.structure.macs(layer) == count_macs(module, (shape["inputs"], *SIZES[layer.axes]))
    assert module.structure.params(layer) == count_parameters(module)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_another_input_size_scales_the_regions(axes: int) -> None:
    shape = {"inputs": 6, "outputs": 8, "kernel_size": (3,) * axes, "stride": 1, "padding": 1, "dilation": 1}
    torch.manual_seed(0)
    model = _network({**shape, "bias": True, "padding_mode": "zeros"})
    side, parts = {1: (40, 4), 2: (16, 4), 3: (7, 2)}[axes]
    images = torch.randn(30, 6, *[side] * axes, dtype=torch.float64)
    calibration = calibrate(model, [images], cells=parts)
    module = _full_rank(model, calibration.layers[0], calibration, Grid(parts), 1)
    larger = torch.randn(2, 6, *[2 * side - axis for axis in range(axes)], dtype=torch.float64)
    torch.testing.assert_close(module(larger), model[0](larger))
