"""The graphs that are timed do the work that the replaced layers do."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import shape_inference

from hscc.calibration.collect import Calibration
from hscc.export.graph.builder import INPUT
from hscc.structures.layer_graph import frame_graph, layer_graph
from hscc.structures.structure import DENSE, Block, Region, Structure, behind_projection, structure_macs
from hscc.timing.sessions import open_graph

BANDS = tuple(((row, row + 2, 0, 4),) for row in (0, 2))


def structure(
    inputs: int, projection: int = 0, tiles=(((0, 1, 0, 1),),), clusters: int = 1, rank: int = 4
) -> Structure:
    parts = np.array_split(np.arange(projection or inputs), clusters)
    blocks = tuple(Block(tuple(int(c) for c in part), 4) for part in parts)
    regions = tuple(Region(place, blocks) for place in tiles)
    return Structure("low_rank", 4 if len(tiles) > 1 else 1, regions, projection=projection)


def graph_macs(model: onnx.ModelProto) -> int:
    """Multiply-accumulates of the graph's convolutions and matrix products, from the shapes it infers."""
    inferred = shape_inference.infer_shapes(model).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.value_info}
    weights = {weight.name: list(weight.dims) for weight in inferred.initializer}
    total = 0
    for node in inferred.node:
        if node.op_type in ("Conv", "Gemm"):
            positions = int(np.prod(shapes[node.output[0]][2:]))
            total += int(np.prod(weights[node.input[1]])) * positions
    return total


@pytest.mark.parametrize("index", [1, 2, 3])
@pytest.mark.parametrize(
    "kind", [{}, {"projection": 8}, {"clusters": 2}, {"tiles": BANDS}, {"tiles": BANDS, "projection": 4}], ids=str
)
def test_a_timed_graph_multiplies_as_often_as_the_structure(calibration: Calibration, index: int, kind: dict) -> None:
    layer = calibration.layers[index]
    if layer.kind == "linear" and set(kind) - {"clusters"}:
        pytest.skip("linear layers have neither bands nor directions")
    chosen = structure(layer.inputs, **kind)
    model = layer_graph(layer, chosen)
    assert graph_macs(model) == structure_macs(layer, chosen)
    assert graph_macs(layer_graph(layer, DENSE)) == layer.macs


@pytest.mark.parametrize("kind", [{"clusters": 2}, {"tiles": BANDS}, {"tiles": BANDS, "projection": 4}], ids=str)
def test_a_timed_graph_gives_the_layers_outputs_shape(calibration: Calibration, kind: dict) -> None:
    layer = calibration.layers[1]
    session = open_graph(layer_graph(layer, structure(layer.inputs, **kind)), 1)
    images = np.zeros((3, layer.inputs, *layer.input_grid), np.float32)
    assert session.run(None, {INPUT: images})[0].shape == (3, layer.outputs, *layer.grid)


def test_equal_clusters_are_one_grouped_convolution(calibration: Calibration) -> None:
    layer = calibration.layers[1]
    model = layer_graph(layer, structure(layer.inputs, clusters=4))
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    groups = [attribute.i for node in convolutions for attribute in node.attribute if attribute.name == "group"]
    assert groups == [4, 1]  # encoder and decoder


def test_the_frame_is_what_stands_around_a_layer(calibration: Calibration) -> None:
    layer = calibration.layers[1]
    inside = Counter(node.op_type for node in layer_graph(layer, DENSE).graph.node)
    frame = Counter(node.op_type for node in frame_graph(layer.inputs, layer.input_grid).graph.node)
    assert inside - frame == Counter({"Conv": 1, "Relu": 1}) and frame["MaxPool"] == inside["MaxPool"]


def test_behind_a_projection_the_inputs_are_its_directions(calibration: Calibration) -> None:
    layer = calibration.layers[1]
    assert behind_projection(layer, structure(layer.inputs, projection=8)).inputs == 8
    assert behind_projection(layer, structure(layer.inputs)) is layer
