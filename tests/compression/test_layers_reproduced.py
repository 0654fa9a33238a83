"""Full rank reproduces every layer, whatever its geometry and structure."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.calibration.collect import calibrate
from hscc.calibration.layers import Layer
from hscc.compression.factors import region_factors
from hscc.compression.fill import low_rank_state
from hscc.compression.low_rank import dense_bias, dense_weight, layer_region, whole_layer
from hscc.compression.modules import replacement
from hscc.compression.partition import random_groups, region_tiles
from hscc.compression.spectra import columns_of, spectrum, weighting
from hscc.compression.structure import Block, Region, Structure, structure_macs, structure_params
from hscc.models.counting import count_macs, count_parameters

geometry = st.fixed_dictionaries(
    {
        "inputs": st.integers(2, 9),
        "outputs": st.integers(2, 9),
        "kernel_size": st.tuples(st.integers(1, 4), st.integers(1, 3)),
        "stride": st.integers(1, 3),
        "padding": st.sampled_from([0, 1, (2, 0)]),
        "dilation": st.integers(1, 2),
        "bias": st.booleans(),
        "padding_mode": st.sampled_from(["zeros", "reflect"]),
    }
)


def _network(shape: dict) -> nn.Module:
    shape = dict(shape)
    conv = nn.Conv2d(shape.pop("inputs"), shape.pop("outputs"), **shape)
    head = nn.Linear(conv.out_channels, 3)
    return nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).double().eval()


def _full_rank(model: nn.Module, layer: Layer, calibration, grid: tuple[int, int], clusters: int) -> nn.Module:
    moments, images = calibration.moments[layer.name], calibration.images
    everywhere, weight = whole_layer(moments, images).sensitivity, dense_weight(model, layer)
    groups = random_groups(layer.inputs, clusters, seed=3)
    regions, factors = [], []
    for tile in region_tiles(*grid, calibration.cells):
        seen = layer_region(moments, layer, calibration.cells, tile, images)
        norm = weighting(seen, everywhere, 0.3)
        blocks, rows = [], []
        for group in groups:
            encoder = spectrum(weight, seen, norm, columns_of(layer, group)).encoder
            full = encoder.new_zeros(len(encoder), layer.features)
            full[:, columns_of(layer, group)] = encoder
            rows.append(full)
            blocks.append(Block(group, len(encoder)))
        regions.append(Region(tile, tuple(blocks)))
        factors.append(region_factors(weight, dense_bias(model, layer), seen, norm.sensitivity, torch.cat(rows)))
    structure = Structure("low_rank", calibration.cells, tuple(regions))
    module = replacement(layer, structure).double()
    module.load_state_dict(low_rank_state(layer, structure, factors))
    module.structure = structure
    return module


@settings(max_examples=25, deadline=None)
@given(geometry, st.sampled_from([(1, 1), (2, 2), (3, 1), (4, 4)]), st.integers(1, 3), st.integers(0, 5))
def test_full_rank_reproduces_a_convolution(shape: dict, grid: tuple[int, int], clusters: int, seed: int) -> None:
    torch.manual_seed(seed)
    model = _network(shape)
    images = torch.randn(40, shape["inputs"], 17, 15, dtype=torch.float64)
    calibration = calibrate(model, [images], cells=4)
    layer = calibration.layers[0]
    grid = (min(grid[0], layer.grid[0]), min(grid[1], layer.grid[1]))
    module = _full_rank(model, layer, calibration, grid, clusters)
    fresh = torch.randn(3, shape["inputs"], 17, 15, dtype=torch.float64)
    expected = model[0](fresh)
    torch.testing.assert_close(module(fresh), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


@settings(max_examples=20, deadline=None)
@given(geometry, st.sampled_from([(1, 1), (2, 2), (4, 4)]), st.integers(1, 3))
def test_structure_counts_what_the_module_does(shape: dict, grid: tuple[int, int], clusters: int) -> None:
    torch.manual_seed(0)
    model = _network(shape)
    calibration = calibrate(model, [torch.randn(30, shape["inputs"], 17, 15, dtype=torch.float64)], cells=4)
    layer = calibration.layers[0]
    grid = (min(grid[0], layer.grid[0]), min(grid[1], layer.grid[1]))
    module = _full_rank(model, layer, calibration, grid, clusters)
    assert structure_macs(layer, module.structure) == count_macs(module, (shape["inputs"], 17, 15))
    assert structure_params(layer, module.structure) == count_parameters(module)


def test_another_input_size_scales_the_regions() -> None:
    shape = {"inputs": 6, "outputs": 8, "kernel_size": 3, "stride": 1, "padding": 1, "dilation": 1, "bias": True}
    torch.manual_seed(0)
    model = _network({**shape, "padding_mode": "zeros"})
    calibration = calibrate(model, [torch.randn(30, 6, 16, 16, dtype=torch.float64)], cells=4)
    module = _full_rank(model, calibration.layers[0], calibration, (4, 4), 1)
    larger = torch.randn(2, 6, 25, 31, dtype=torch.float64)
    torch.testing.assert_close(module(larger), model[0](larger))
