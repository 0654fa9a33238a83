"""One layer as the small ONNX graph that ONNX Runtime is timed on.

Inside a network ONNX Runtime keeps feature maps in blocks of channels (NCHWc) from one convolution to the next; alone,
a layer would pay for the way there and back at each call. So a 1 x 1 max pooling, which keeps that layout, stands
before and behind the layer, and `frame_graph` has these alone, to be subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from hscc.calibration.layers import Layer, Rectangle, area, reach, tile_rectangle
from hscc.export.graph.builder import INPUT, Builder
from hscc.structures.modules import bands
from hscc.structures.structure import Region, Structure, behind_projection

_BLOCKED = 16  # channels from which on a pooling keeps the blocked layout
_NONE = (0, 0, 0, 0)


def layer_graph(layer: Layer, structure: Structure) -> onnx.ModelProto:
    """Graph of a layer in a structure with ranks, ReLU included, between poolings that keep the layout.

    Parameters
    ----------
    layer : Layer
        Geometry.
    structure : Structure
        "dense" or "low_rank".
    """
    graph = Builder()
    if layer.kind == "linear":
        output = graph.node("Relu", [_linear(graph, INPUT, layer, structure)])
        return graph.model(output, ("batch", layer.inputs))
    entry = _frame(graph, INPUT, layer.inputs)
    if structure.projection:
        entry = graph.conv(entry, (structure.projection, layer.inputs, (1, 1)))
    inner = behind_projection(layer, structure)
    if structure.kind == "dense":
        result = graph.node("Relu", [_conv(graph, entry, layer, layer.outputs, layer.padding, bias=True)])
    elif len(structure.regions) == 1:
        # The one permutation of an undivided layer is folded into the layer before; see `permutations`.
        result = _region(graph, entry, inner, structure.regions[0], layer.padding)
    else:
        result = _regions(graph, entry, inner, structure)
    return graph.model(_frame(graph, result, layer.outputs), ("batch", layer.inputs, *layer.input_grid))


def frame_graph(channels: int, grid: tuple[int, int]) -> onnx.ModelProto:
    """Graph of the poolings around a layer, without the layer."""
    graph = Builder()
    inside = _frame(graph, graph.node("Identity", [INPUT]), channels)
    return graph.model(_frame(graph, inside, channels), ("batch", channels, *grid))


def _frame(graph: Builder, entry: str, channels: int) -> str:
    return graph.pool(entry) if channels >= _BLOCKED else entry


def _linear(graph: Builder, entry: str, layer: Layer, structure: Structure) -> str:
    if structure.kind == "dense":
        return graph.linear(entry, layer.inputs, layer.outputs)
    region = structure.regions[0]
    sizes = [len(block.channels) for block in region.blocks]
    parts = graph.nodes("Split", [entry, graph.integers(*sizes)], len(sizes), axis=1) if len(sizes) > 1 else [entry]
    codes = [
        graph.linear(part, size, block.rank) for part, size, block in zip(parts, sizes, region.blocks, strict=True)
    ]
    return graph.linear(graph.join(codes, 1), region.rank, layer.outputs)


def _regions(graph: Builder, entry: str, layer: Layer, structure: Structure) -> str:
    left, right, top, bottom = layer.padding
    if any(layer.padding):
        entry = graph.node("Pad", [entry, graph.integers(0, 0, top, left, 0, 0, bottom, right)])
    rows = []
    for band in bands(structure):
        placed = [(index, tile_rectangle(tile, layer.grid, structure.cells)) for index, tile in band]
        row = [
            _region(graph, _window(graph, entry, layer, place), layer, structure.regions[index], _NONE, gathered=True)
            for index, place in placed
            if area(place)
        ]
        rows += [graph.join(row, 3)] if row else []
    return graph.join(rows, 2)


def _window(graph: Builder, padded: str, layer: Layer, place: Rectangle) -> str:
    covered, (down, across) = reach(layer), layer.stride
    rows = (place[0] * down, (place[1] - 1) * down + covered[0])
    columns = (place[2] * across, (place[3] - 1) * across + covered[1])
    return graph.cut(padded, {2: rows, 3: columns})


def _region(
    graph: Builder, entry: str, layer: Layer, region: Region, padding: Sequence[int], gathered: bool = False
) -> str:
    """Encoders as one grouped convolution (equal clusters of equal rank), and the decoder."""
    if gathered and len(region.blocks) > 1:
        order = [channel for block in region.blocks for channel in block.channels]
        entry = graph.node("Gather", [entry, graph.integers(*order)], axis=1)
    codes = _conv(graph, entry, layer, region.rank, padding, groups=len(region.blocks))
    return graph.node("Relu", [graph.conv(codes, (layer.outputs, region.rank, (1, 1)), bias=True)])


def _conv(
    graph: Builder, entry: str, layer: Layer, outputs: int, padding: Sequence[int], groups: int = 1, bias: bool = False
) -> str:
    left, right, top, bottom = padding
    return graph.conv(
        entry,
        (outputs, layer.inputs, layer.kernel),
        stride=layer.stride,
        dilation=layer.dilation,
        pads=(top, left, bottom, right),
        groups=groups,
        bias=bias,
    )
