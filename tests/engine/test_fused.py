"""Compressed layers become one operation and compute what their modules do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from torch import nn

import hscc
from hscc.calibration.layers import Layer
from hscc.engine.program import Convolution, Linear
from hscc.structures.base import Structure
from hscc.structures.block_terms import BlockTerms
from hscc.structures.low_rank import Block, LowRank, Region
from tests.engine.running import assert_traced, kinds
from tests.structures.test_structures import GRID, input_shape, structured_layers
from tests.tiny import tiny_images, tiny_network


def drawn(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


@settings(max_examples=60, deadline=None)
@given(structured_layers(dimensions=(2,)))  # the engine's regions are of pictures
def test_every_structure(case: tuple[Layer, Structure]) -> None:
    layer, structure = case
    layer = replace(layer, padding_mode="constant")
    program = assert_traced(drawn(structure.module(layer)), input_shape(layer))
    narrow = isinstance(structure, BlockTerms) and structure.directions == 1  # depthwise, and left by itself
    # A constant behind a projection of one position is right, but the projection is left before it.
    constant = isinstance(structure, LowRank) and layer.taps == 1 and not any(r.rank for r in structure.regions)
    if structure.kind in ("low_rank", "tucker", "block_terms") and not narrow and not constant:
        assert len([kind for kind in kinds(program) if kind not in ("Select", "Reshape")]) == 1


@pytest.mark.parametrize(
    "method",
    [
        hscc.HSCC(), hscc.HSCC(regions=4, clusters=1, projection=None), hscc.HSCC(regions="merged", clusters=1),
        hscc.HSCC(regions=1, clusters=4, projection=None), hscc.HSCC(regions=(2, 1), clusters=2, projection=None),
        hscc.HSCC(regions=2, clusters=0.3, projection=None), hscc.AdaptiveTucker(), hscc.SpatialSVD(), hscc.ALDS(),
        hscc.GlobalSVD(), hscc.RandomRegions(), hscc.GlobalGroups(),
    ],
    ids=str,
)  # fmt: skip
def test_compressed_networks(method: hscc.methods.base.Method) -> None:
    network = hscc.compress(tiny_network(), [tiny_images()], method, hscc.Budget(macs=2.5, only=True))
    assert_traced(network.float(), (3, 18, 18))


def _layer(inputs: int) -> Layer:
    return Layer("x", "conv", inputs, 24, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), "constant", GRID, GRID, True)


def test_equal_clusters_of_one_region_are_groups() -> None:
    blocks = tuple(Block(tuple(range(first, 32, 4)), 4) for first in range(4))
    structure = LowRank(1, (Region(((0, 1, 0, 1),), blocks),))
    program = assert_traced(drawn(structure.module(_layer(32))), (32, *GRID))
    (convolution,) = program.operations
    assert isinstance(convolution, Convolution)
    assert convolution.groups == 4 and convolution.permutation is not None
    assert convolution.regions[0].core.shape == (16, 1, 3, 3, 8)  # type: ignore[union-attr]


def test_clusters_that_differ_between_regions_share_a_dense_core() -> None:
    halves = [tuple(range(16)), tuple(range(16, 32))]
    evens = [tuple(range(0, 32, 2)), tuple(range(1, 32, 2))]
    regions = tuple(
        Region(((0, 1, column, column + 1),), tuple(Block(channels, 3) for channels in clusters))
        for column, clusters in enumerate((halves, evens))
    )
    top = Region(((1, 2, 0, 2),), tuple(Block(channels, 0) for channels in halves))
    structure = LowRank(2, (*regions, top))
    (convolution,) = assert_traced(drawn(structure.module(_layer(32))), (32, *GRID)).operations
    assert isinstance(convolution, Convolution)
    assert [region.hidden for region in convolution.regions] == [6, 6, -1]
    core = convolution.regions[1].core
    assert core is not None and not core[0, ..., 1::2].any() and core[0, ..., ::2].any()


def test_clusters_of_a_linear_layer_are_groups_and_low_rank_is_an_encoder() -> None:
    layer = Layer("x", "linear", 48, 20, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), "constant", (1, 1), (4, 4), True)
    one = LowRank(1, (Region(((0, 1, 0, 1),), (Block(tuple(range(48)), 5),)),))
    network = nn.Sequential(nn.Flatten(), drawn(one.module(layer)))
    (linear,) = assert_traced(network, (3, 4, 4)).operations
    assert isinstance(linear, Linear) and linear.encoder is not None
    four = LowRank(1, (Region(((0, 1, 0, 1),), tuple(Block(tuple(range(n, 48, 4)), 2) for n in range(4))),), 1)
    network = nn.Sequential(nn.Flatten(), drawn(four.module(layer)))
    assert kinds(assert_traced(network, (3, 4, 4))) == ["Reshape", "Convolution"]


def test_padding_that_repeats_the_border_is_named() -> None:
    layer = replace(_layer(8), padding_mode="reflect")
    structure = LowRank(1, (Region(((0, 1, 0, 1),), (Block(tuple(range(8)), 2),)),))
    with pytest.raises(hscc.errors.ExportError, match="reflect"):
        assert_traced(structure.module(layer), (8, *GRID))
