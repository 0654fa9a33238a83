"""What every registered structure must hold to, for layers of any geometry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.budgets.layer_graphs import frame_graph, layer_graphs
from hscc.calibration.layers import CONVOLUTIONS, Layer, find_layers
from hscc.networks.cost import count_macs, count_parameters
from hscc.partitions.regions import Grid, grid_tiles
from hscc.structures.base import STRUCTURES, Structure, read_structure, whole_tiles
from hscc.structures.block_terms import block_terms
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.structures.spatial import Separable
from hscc.structures.tucker import Tucker2
from hscc.timing.sessions import open_graph

GRID = (13, 11)
GRIDS = {1: (23,), 2: GRID, 3: (7, 6, 5)}
IRREGULAR = {
    1: (((0, 1), (3, 4)), ((1, 3),)),
    2: (((0, 1, 0, 1), (1, 4, 0, 2)), ((0, 1, 1, 4), (1, 4, 2, 4))),
    3: (
        ((0, 1, 0, 4, 0, 1), (1, 4, 0, 2, 0, 4)),
        ((0, 1, 0, 4, 1, 4), (1, 4, 2, 4, 0, 3), (1, 4, 2, 4, 3, 4)),
    ),
}


@st.composite
def convolutions(draw: st.DrawFn, dimensions: tuple[int, ...] = (1, 2, 2, 3)) -> Layer:
    axes = draw(st.sampled_from(dimensions))
    inputs, outputs = draw(st.integers(2, 20)), draw(st.integers(2, 20))
    kernel = draw(st.tuples(*[st.integers(1, 4 if axes < 3 and not axis else 3) for axis in range(axes)]))
    stride, padding = draw(st.sampled_from([(1, 0), (2, 1), (3, (2, 0, 0)[:axes]), (1, "same")]))
    conv = CONVOLUTIONS[axes](
        inputs, outputs, kernel, stride, padding, draw(st.integers(1, 2)), bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect"])),
    )  # fmt: skip
    return find_layers(nn.Sequential(conv), (inputs, *GRIDS[axes]))[0][0]


@st.composite
def linear_layers(draw: st.DrawFn) -> Layer:
    channels, outputs, bias = draw(st.integers(1, 5)), draw(st.integers(1, 20)), draw(st.booleans())
    grid = draw(st.sampled_from([(12,), (3, 4), (2, 3, 2)]))
    head = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(channels * 12, outputs, bias))
    (layer,) = find_layers(head, (channels, *grid))[0]
    assert layer.input_grid == grid
    return layer


@st.composite
def low_rank(draw: st.DrawFn, layer: Layer) -> LowRank:
    conv = layer.kind == "conv"
    fits = conv and min(layer.grid) >= 4
    projection = draw(st.integers(0, layer.inputs)) if conv else 0
    inputs = projection or layer.inputs
    clusters = 1 if projection else draw(st.integers(1, min(3, inputs)))
    channels = np.array_split(np.random.default_rng(draw(st.integers(0, 9))).permutation(inputs), clusters)
    partitions = [[(tile,) for tile in grid_tiles(Grid(*parts).along(layer.axes), 4)] for parts in ((2,), (4, 1))]
    tiles = draw(st.sampled_from([[whole_tiles(layer.axes)], *([*partitions, IRREGULAR[layer.axes]] if fits else [])]))
    ranks = st.integers(0, 5) if conv else st.integers(1, 5)
    regions = tuple(
        Region(tile, tuple(Block(tuple(sorted(part.tolist())), draw(ranks)) for part in channels)) for tile in tiles
    )
    return LowRank(1 if len(tiles) == 1 else 4, regions, 1, projection)


STRATEGIES: dict[str, Callable[[Layer], st.SearchStrategy[Structure]]] = {
    "dense": lambda layer: st.just(DENSE),
    "low_rank": low_rank,
    "tucker": lambda layer: st.builds(Tucker2, st.tuples(st.integers(1, layer.inputs), st.integers(1, layer.outputs))),
    "block_terms": lambda layer: st.builds(
        block_terms, st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.just(layer.axes)
    ),
    "spatial": lambda layer: st.builds(Separable, st.integers(1, 9)),
}
LINEAR = {"dense", "low_rank"}  # the others are of convolutions
TWO_AXES = {"spatial"}


@st.composite
def structured_layers(draw: st.DrawFn, dimensions: tuple[int, ...] = (1, 2, 2, 3)) -> tuple[Layer, Structure]:
    """Draw a layer with a structure of one of the registered kinds."""
    layer = draw(st.one_of(convolutions(dimensions), linear_layers()))
    kinds = LINEAR if layer.kind == "linear" else set(STRUCTURES) - (set() if layer.axes == 2 else TWO_AXES)
    kind = draw(st.sampled_from(sorted(kinds)))
    return layer, draw(STRATEGIES[kind](layer))


def input_shape(layer: Layer) -> tuple[int, ...]:
    return (layer.inputs, *layer.input_grid) if layer.kind == "conv" else (layer.inputs,)


def output_shape(layer: Layer) -> tuple[int, ...]:
    return (layer.outputs, *layer.grid) if layer.kind == "conv" else (layer.outputs,)


@settings(max_examples=100, deadline=None)
@given(structured_layers())
def test_the_module_costs_what_the_structure_says(case: tuple[Layer, Structure]) -> None:
    layer, structure = case
    module = structure.module(layer)
    assert count_macs(module, input_shape(layer)) == structure.macs(layer)  # type: ignore[arg-type]
    assert count_parameters(module) == structure.params(layer)


@settings(max_examples=80, deadline=None)
@given(structured_layers(), st.integers(1, 3))
def test_the_module_takes_the_place_of_the_layer(case: tuple[Layer, Structure], batch: int) -> None:
    layer, structure = case
    state = torch.random.get_rng_state()
    module = structure.module(layer)
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        assert module(torch.zeros(batch, *input_shape(layer))).shape == (batch, *output_shape(layer))


@settings(max_examples=80, deadline=None)
@given(structured_layers())
def test_a_structure_survives_json_and_describes_itself(case: tuple[Layer, Structure]) -> None:
    layer, structure = case
    record = json.loads(json.dumps(structure.to_record()))
    assert read_structure(record) == structure
    assert list(record) == ["kind", "cells", "regions", "core", "input_regions", "projection"]  # hscc-plan-3
    json.dumps(structure.timing_key())
    assert structure.describe()
    ranks = structure.region_ranks(layer)
    assert structure.rank_note or (ranks is not None and len(ranks) == len(structure.cell_tiles(layer)[1]))
    assert 0 <= structure.kept_clusters <= structure.cluster_count


def test_a_structure_that_is_not_registered_is_refused() -> None:
    with pytest.raises(ValueError, match="'wavelet' is unknown"):
        read_structure({"kind": "wavelet"})


def test_a_new_structure_registers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(STRUCTURES, "dense")  # restores the registry afterwards

    class Other(type(DENSE)):
        kind = "dense"

    assert STRUCTURES["dense"] is Other


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(structured_layers(), st.integers(0, 9))
def test_the_timed_graph_computes_what_the_module_does(case: tuple[Layer, Structure], seed: int) -> None:
    layer, structure = case
    torch.manual_seed(seed)
    module, graph = structure.module(layer), layer_graph(layer, structure)  # of the same random numbers
    session = open_graph(graph, 1)
    for batch in (1, 3):
        images = torch.randn(batch, *input_shape(layer))
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        with torch.no_grad():
            expected = module(images).relu()
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


def layer_graph(layer: Layer, structure: Structure) -> onnx.ModelProto:
    return next(layer_graphs(layer, [structure]))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(convolutions().flatmap(lambda layer: st.tuples(st.just(layer), low_rank(layer))))
def test_a_graph_at_another_rank_is_the_export_at_that_rank(case: tuple[Layer, LowRank]) -> None:
    layer, structure = case
    levels = [timed for _, timed in structure.rank_levels(layer)]
    torch.manual_seed(0)  # building a module leaves the generator as it was
    *_, graph = layer_graphs(layer, levels)  # the first is exported, the others are made of it
    alone = layer_graph(layer, levels[-1])
    assert [node.op_type for node in graph.graph.node] == [node.op_type for node in alone.graph.node]
    images = np.random.default_rng(0).standard_normal((2, *input_shape(layer)), dtype=np.float32)
    found, expected = (open_graph(each, 1).run(None, {"image": images})[0] for each in (graph, alone))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def conv(inputs: int = 16, outputs: int = 24) -> Layer:
    return find_layers(nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1)), (inputs, *GRID))[0][0]


def clustered(layer: Layer, clusters: int) -> LowRank:
    blocks = tuple(Block(tuple(range(index, layer.inputs, clusters))) for index in range(clusters))
    return LowRank(1, (Region(whole_tiles(2), blocks),))


def nodes(graph: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph.node)


def test_the_clusters_of_an_undivided_layer_are_timed_in_order_and_as_one_grouped_convolution() -> None:
    layer = conv(64, 64)
    timed = [structure for _, structure in clustered(layer, 4).rank_levels(layer)]
    graph = layer_graph(layer, timed[-1])
    groups = [a.i for node in graph.graph.node for a in node.attribute if node.op_type == "Conv" and a.name == "group"]
    assert groups == [4, 1]  # encoder and decoder
    assert "Gather" not in nodes(graph)


def test_the_frame_is_what_stands_around_a_layer() -> None:
    layer = conv()
    inside, frame = nodes(layer_graph(layer, DENSE)), nodes(frame_graph(layer.inputs, layer.input_grid))
    assert inside - frame == Counter({"Conv": 1, "Relu": 1}) and frame["MaxPool"] == inside["MaxPool"] == 2


def test_after_a_projection_the_inputs_are_its_directions() -> None:
    layer = conv()
    projected = LowRank(1, (Region(whole_tiles(2), (Block(tuple(range(8))),)),), projection=8)
    assert projected.projected_layer(layer).inputs == 8
    assert clustered(layer, 1).projected_layer(layer) is layer
