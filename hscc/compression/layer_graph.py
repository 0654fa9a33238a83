"""One layer as the small ONNX graph that ONNX Runtime is timed on.

Inside a network ONNX Runtime keeps feature maps in blocks of channels (NCHWc) from one convolution to the next; alone,
a layer would pay for the way there and back at each call. So a 1 x 1 max pooling, which keeps that layout, stands
before and behind the layer, and `frame_graph` has these alone, to be subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hscc.calibration.cells import tile_rectangle
from hscc.calibration.layers import Layer, reach
from hscc.compression.modules import bands
from hscc.compression.structure import Region, Structure, behind_projection

INPUT, OUTPUT = "input", "output"
_OPSET, _IR = 18, 9
_BLOCKED = 16  # channels from which on a pooling keeps the blocked layout


class _Graph:
    """Nodes and weights under construction; weights are drawn, time does not depend on them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def split(self, entry: str, sizes: Sequence[int]) -> list[str]:
        names = [f"Split{len(self.nodes)}_{index}" for index in range(len(sizes))]
        lengths = self.constant(np.array(sizes, np.int64))
        self.nodes.append(helper.make_node("Split", [entry, lengths], names, axis=1))
        return names

    def one(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: npt.NDArray[np.generic]) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def drawn(self, *shape: int) -> str:
        scale = np.float32(1 / np.sqrt(max(int(np.prod(shape[1:])), 1)))
        return self.constant(self.random.standard_normal(shape, np.float32) * scale)

    def model(self, shape: Sequence[int], output: str) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [output], [OUTPUT]))
        entry = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *shape])
        result = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "layer", [entry], [result], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


def layer_graph(layer: Layer, structure: Structure) -> onnx.ModelProto:
    """Graph of a layer in a structure with ranks, ReLU included, between poolings that keep the layout.

    Parameters
    ----------
    layer : Layer
        Geometry.
    structure : Structure
        "dense" or "low_rank".
    """
    graph = _Graph()
    if layer.kind == "linear":
        return graph.model([layer.inputs], graph.one("Relu", [_linear(graph, INPUT, layer, structure)]))
    entry = _frame(graph, INPUT, layer.inputs)
    if structure.projection:
        entry = graph.one("Conv", [entry, graph.drawn(structure.projection, layer.inputs, 1, 1)])
    inner = behind_projection(layer, structure)
    if structure.kind == "dense":
        result = graph.one("Relu", [_conv(graph, entry, layer, layer.outputs, 1, layer.padding)])
    elif len(structure.regions) == 1:
        # The one permutation of an undivided layer is folded into the layer before; see `hscc.graph.simplify`.
        result = _region(graph, entry, inner, structure.regions[0], layer.padding, permuted=False)
    else:
        result = _regions(graph, entry, inner, structure)
    return graph.model([layer.inputs, *layer.input_grid], _frame(graph, result, layer.outputs))


def frame_graph(channels: int, grid: tuple[int, int]) -> onnx.ModelProto:
    """Graph of the poolings around a layer, without the layer."""
    graph = _Graph()
    return graph.model([channels, *grid], _frame(graph, _frame(graph, INPUT, channels), channels))


def _frame(graph: _Graph, entry: str, channels: int) -> str:
    return graph.one("MaxPool", [entry], kernel_shape=[1, 1]) if channels >= _BLOCKED else entry


def _linear(graph: _Graph, entry: str, layer: Layer, structure: Structure) -> str:
    if structure.kind == "dense":
        return _gemm(graph, entry, layer.inputs, layer.outputs)
    blocks = structure.regions[0].blocks
    parts = graph.split(entry, [len(block.channels) for block in blocks]) if len(blocks) > 1 else [entry]
    codes = [
        _gemm(graph, part, len(block.channels), block.rank) for part, block in zip(parts, blocks, strict=True)
    ]  # fmt: skip
    joined = graph.one("Concat", codes, axis=1) if len(codes) > 1 else codes[0]
    return _gemm(graph, joined, structure.regions[0].rank, layer.outputs)


def _gemm(graph: _Graph, entry: str, inputs: int, outputs: int) -> str:
    bias = graph.constant(np.zeros(outputs, np.float32))
    return graph.one("Gemm", [entry, graph.drawn(outputs, inputs), bias], transB=1)


def _regions(graph: _Graph, entry: str, layer: Layer, structure: Structure) -> str:
    left, right, top, bottom = layer.padding
    amounts = graph.constant(np.array([0, 0, top, left, 0, 0, bottom, right], np.int64))
    padded = graph.one("Pad", [entry, amounts]) if any(layer.padding) else entry
    rows = []
    for band in bands(structure):
        row = []
        for index, tile in band:
            rectangle = tile_rectangle(tile, layer.grid, structure.cells)
            if (rectangle[1] - rectangle[0]) * (rectangle[3] - rectangle[2]):
                window = _window(graph, padded, layer, rectangle)
                row.append(_region(graph, window, layer, structure.regions[index], (0, 0, 0, 0), permuted=True))
        if row:
            rows.append(graph.one("Concat", row, axis=3) if len(row) > 1 else row[0])
    return graph.one("Concat", rows, axis=2) if len(rows) > 1 else rows[0]


def _window(graph: _Graph, padded: str, layer: Layer, rectangle: tuple[int, int, int, int]) -> str:
    first_row, end_row, first_column, end_column = rectangle
    starts = [first_row * layer.stride[0], first_column * layer.stride[1]]
    ends = [
        (end - 1) * step + covered
        for end, step, covered in zip((end_row, end_column), layer.stride, reach(layer), strict=True)
    ]
    return graph.one("Slice", [padded, *(graph.constant(np.array(v, np.int64)) for v in (starts, ends, [2, 3]))])


def _region(graph: _Graph, entry: str, layer: Layer, region: Region, padding: Sequence[int], permuted: bool) -> str:
    """Encoder a cluster as one grouped convolution (equal clusters of equal rank), and the decoder."""
    if permuted and len(region.blocks) > 1:
        order = [channel for block in region.blocks for channel in block.channels]
        entry = graph.one("Gather", [entry, graph.constant(np.array(order, np.int64))], axis=1)
    codes = _conv(graph, entry, layer, region.rank, len(region.blocks), padding)
    decoded = [codes, graph.drawn(layer.outputs, region.rank, 1, 1), graph.drawn(layer.outputs)]
    return graph.one("Relu", [graph.one("Conv", decoded)])


def _conv(graph: _Graph, entry: str, layer: Layer, outputs: int, groups: int, padding: Sequence[int]) -> str:
    left, right, top, bottom = padding
    return graph.one(
        "Conv",
        [entry, graph.drawn(outputs, layer.inputs // groups, *layer.kernel)],
        strides=list(layer.stride),
        dilations=list(layer.dilation),
        pads=[top, left, bottom, right],
        group=groups,
    )
