"""ONNX graphs that execute one factored convolution in different ways.

Input and output have the blocked layout that ONNX Runtime keeps inside a network. Weights are random: the time does not
depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx

from benchmarks.graph_builder import INPUT, GraphBuilder
from hscc.calibration.layers import Layer, Rectangle, area, reach

CLUSTERS = 4
_ROUND = 8  # ranks in multiples of the SIMD width of AVX2
_BLOCK = 16  # channels in a block of ONNX Runtime's layout with AVX-512; groups of other sizes leave the layout
_POINT = (1, 1)


@dataclass(frozen=True)
class Execution:
    """One way to execute a layer, with its activation.

    Attributes
    ----------
    name : str
        Shown in the table.
    build : callable
        From a builder, the layer and the name of its input to the name of the activated output.
    macs : int
        Multiply-accumulates per image.
    """

    name: str
    build: Callable[[GraphBuilder, Layer, str], str]
    macs: int

    def graph(self, layer: Layer) -> onnx.ModelProto:
        """Build the graph between two 1 x 1 poolings, which keep the blocked layout as inside a network."""
        builder = GraphBuilder()
        output = builder.pool(self.build(builder, layer, builder.pool(INPUT)))
        return builder.model(output, ("batch", layer.inputs, *layer.input_grid))


@dataclass(frozen=True)
class Regional:
    """Regions of the output map, each with its own factors, concatenated.

    Attributes
    ----------
    grid : (int, int)
        Regions along rows and columns.
    rank : int
        Of each region.
    pad_first : bool
        Pad the whole input before it is cut, instead of in each encoder.
    relu_inside : bool
        Activate each region, instead of the joined output.
    matmul : bool
        Decode by a matrix product in channels-last layout, instead of a 1 x 1 convolution.
    channels_last : bool
        Cut the input in channels-last layout.
    constant : int
        Number of leading regions whose output is constant.
    """

    grid: tuple[int, int]
    rank: int
    pad_first: bool = False
    relu_inside: bool = True
    matmul: bool = False
    channels_last: bool = False
    constant: int = 0

    def __call__(self, b: GraphBuilder, layer: Layer, x: str) -> str:
        """Build the graph."""
        left, right, top, bottom = layer.padding
        if self.channels_last:
            x = b.transpose(x, 0, 2, 3, 1)
        if self.pad_first:
            pads = (
                (0, top, left, 0, 0, bottom, right, 0) if self.channels_last else (0, 0, top, left, 0, 0, bottom, right)
            )
            x = b.node("Pad", [x, b.integers(*pads)])
        rows = []
        for number, row in enumerate(_tile_rows(layer, self.grid)):
            parts = [
                self._constant(b, layer, tile) if number * self.grid[1] + column < self.constant
                else self._region(b, layer, x, tile)
                for column, tile in enumerate(row)
            ]  # fmt: skip
            rows.append(b.join(parts, 2 if self.matmul else 3))
        whole = b.join(rows, 1 if self.matmul else 2)
        if not self.relu_inside:
            whole = b.node("Relu", [whole])
        return b.transpose(whole, 0, 3, 1, 2) if self.matmul else whole

    def _region(self, b: GraphBuilder, layer: Layer, x: str, tile: Rectangle) -> str:
        window, pads = _input_windows(layer, tile, padded=self.pad_first)
        first = 1 if self.channels_last else 2
        part = b.cut(x, {first + axis: bounds for axis, bounds in enumerate(window) if self.grid[axis] > 1})
        if self.channels_last:
            part = b.transpose(part, 0, 3, 1, 2)
        hidden = _encode(b, layer, part, self.rank, pads)
        if self.matmul:
            product = b.node("MatMul", [b.transpose(hidden, 0, 2, 3, 1), b.weights(self.rank, layer.outputs)])
            output = b.node("Add", [product, b.weights(layer.outputs)])
        else:
            output = _decode(b, layer, hidden, self.rank)
        return b.node("Relu", [output]) if self.relu_inside else output

    def _constant(self, b: GraphBuilder, layer: Layer, tile: Rectangle) -> str:
        shape = b.node("Shape", [INPUT], start=0, end=1)
        sizes = b.integers(layer.outputs, tile[1] - tile[0], tile[3] - tile[2])
        return b.node("Expand", [b.weights(1, layer.outputs, 1, 1), b.node("Concat", [shape, sizes], axis=0)])


def executions(layer: Layer, ratio: float) -> Iterator[Execution]:
    """Yield the executions to compare, dense first.

    Parameters
    ----------
    layer : Layer
        A convolution.
    ratio : float
        Least reduction of multiply-accumulates; ranks are multiples of 8, per cluster also of 16.
    """
    rank = _rank(layer, ratio, 1, _ROUND)

    def cost(rank: int, clusters: int = 1, share: float = 1) -> int:
        return round(share * layer.positions * rank * (layer.features // clusters + layer.outputs))

    yield Execution("dense", _dense, layer.macs)
    yield Execution(f"one low-rank pair, rank {rank}", _pair(rank), cost(rank))
    for wide in dict.fromkeys(_rank(layer, ratio, CLUSTERS, multiple) for multiple in (_ROUND, _BLOCK)):
        if layer.inputs % CLUSTERS:
            break
        name = f"{CLUSTERS} clusters, ranks {wide // CLUSTERS}"
        yield Execution(f"{name}, one grouped convolution", _pair(wide, CLUSTERS), cost(wide, CLUSTERS))
        yield Execution(f"{name}, grouped, channels gathered", _gathered(wide), cost(wide, CLUSTERS))
        yield Execution(f"{name}, one convolution each", _split(wide), cost(wide, CLUSTERS))
    for grid, name in (((2, 1), "2 bands"), ((4, 1), "4 bands"), ((2, 2), "2x2 tiles"), ((4, 4), "4x4 tiles")):
        macs = cost(rank)
        plain = {"pad_first": True, "relu_inside": False}
        yield Execution(f"{name}, pad first, ReLU outside", Regional(grid, rank, **plain), macs)
        yield Execution(f"{name}, pad first, ReLU inside", Regional(grid, rank, pad_first=True), macs)
        yield Execution(f"{name}, pad in convolution, ReLU outside", Regional(grid, rank, relu_inside=False), macs)
        yield Execution(f"{name}, pad in convolution, ReLU inside", Regional(grid, rank), macs)
        yield Execution(f"{name}, decoders as MatMul", Regional(grid, rank, matmul=True), macs)
        yield Execution(f"{name}, cut channels-last", Regional(grid, rank, pad_first=True, channels_last=True), macs)
        if grid[1] == 1:
            yield Execution(f"{name}, blocked: cut and summed by convolutions", _blocked(grid[0], rank), macs)
    for grid, name in (((2, 2), "2x2 tiles"), ((4, 4), "4x4 tiles")):
        size = _even_size(layer, grid)
        share = grid[0] * size[0] * grid[1] * size[1] / layer.positions
        yield Execution(f"{name} as groups", _stacked(grid, rank, axis=1), cost(rank, share=share))
        yield Execution(
            f"{name} of one region on the batch axis", _stacked(grid, rank, axis=0), cost(rank, share=share)
        )
    for count in (1, 2):
        share = sum(area(tile) for tile in _tiles(layer, (4, 1))[count:]) / layer.positions
        yield Execution(f"4 bands, {count} constant", Regional((4, 1), rank, constant=count), cost(rank, share=share))


def _rank(layer: Layer, ratio: float, clusters: int, multiple: int) -> int:
    """Largest rank, a multiple of `multiple` per cluster, that reduces the cost by `ratio`."""
    unit = multiple * clusters
    return (
        max(int(layer.features * layer.outputs / ratio / (layer.features / clusters + layer.outputs) / unit), 1) * unit
    )


def _encode(b: GraphBuilder, layer: Layer, x: str, rank: int, pads: tuple[int, int, int, int], groups: int = 1) -> str:
    return b.conv(x, (rank, layer.inputs, layer.kernel), stride=layer.stride, pads=pads, groups=groups)


def _decode(b: GraphBuilder, layer: Layer, hidden: str, rank: int) -> str:
    return b.conv(hidden, (layer.outputs, rank, _POINT), bias=True)


def _own_pads(layer: Layer) -> tuple[int, int, int, int]:
    left, right, top, bottom = layer.padding
    return top, left, bottom, right


def _dense(b: GraphBuilder, layer: Layer, x: str) -> str:
    weight = (layer.outputs, layer.inputs, layer.kernel)
    return b.node("Relu", [b.conv(x, weight, stride=layer.stride, pads=_own_pads(layer), bias=True)])


def _pair(rank: int, clusters: int = 1) -> Callable[[GraphBuilder, Layer, str], str]:
    def build(b: GraphBuilder, layer: Layer, x: str) -> str:
        hidden = _encode(b, layer, x, rank, _own_pads(layer), clusters)
        return b.node("Relu", [_decode(b, layer, hidden, rank)])

    return build


def _gathered(rank: int) -> Callable[[GraphBuilder, Layer, str], str]:
    def build(b: GraphBuilder, layer: Layer, x: str) -> str:
        order = np.random.default_rng(0).permutation(layer.inputs)
        return _pair(rank, CLUSTERS)(b, layer, b.node("Gather", [x, b.constant(order)], axis=1))

    return build


def _split(rank: int) -> Callable[[GraphBuilder, Layer, str], str]:
    def build(b: GraphBuilder, layer: Layer, x: str) -> str:
        parts = b.nodes("Split", [x], CLUSTERS, axis=1, num_outputs=CLUSTERS)
        weight = (rank // CLUSTERS, layer.inputs // CLUSTERS, layer.kernel)
        hidden = [b.conv(part, weight, stride=layer.stride, pads=_own_pads(layer)) for part in parts]
        return b.node("Relu", [_decode(b, layer, b.join(hidden, 1), rank)])

    return build


def _stacked(grid: tuple[int, int], rank: int, axis: int) -> Callable[[GraphBuilder, Layer, str], str]:
    """Tiles of equal size, stacked along channels or batch; what lies beyond the map is cropped."""

    def build(b: GraphBuilder, layer: Layer, x: str) -> str:
        size, count = _even_size(layer, grid), grid[0] * grid[1]
        reaches = [(n - 1) * s + r for n, s, r in zip(size, layer.stride, reach(layer), strict=True)]
        starts = [[n * i * s for i in range(g)] for n, s, g in zip(size, layer.stride, grid, strict=True)]
        left, _, top, _ = layer.padding
        after = [
            steps[-1] + width - inner - before
            for steps, width, inner, before in zip(starts, reaches, layer.input_grid, (top, left), strict=True)
        ]
        x = b.node("Pad", [x, b.integers(0, 0, top, left, 0, 0, *(max(amount, 0) for amount in after))])
        parts = [
            b.cut(x, {2: (row, row + reaches[0]), 3: (column, column + reaches[1])})
            for row in starts[0] for column in starts[1]
        ]  # fmt: skip
        groups = count if axis == 1 else 1
        together = b.node("Concat", parts, axis=axis)
        weight = (groups * rank, groups * layer.inputs, layer.kernel)
        hidden = b.conv(together, weight, stride=layer.stride, groups=groups)
        outputs = b.conv(hidden, (groups * layer.outputs, groups * rank, _POINT), groups=groups, bias=True)
        parts = b.nodes("Split", [b.node("Relu", [outputs])], count, axis=axis, num_outputs=count)
        rows = [b.join(parts[start : start + grid[1]], 3) for start in range(0, count, grid[1])]
        return b.cut(b.join(rows, 2), {2: (0, layer.grid[0]), 3: (0, layer.grid[1])})

    return build


def _blocked(bands: int, rank: int) -> Callable[[GraphBuilder, Layer, str], str]:
    """Bands of rows that stay in the blocked layout.

    A dilated depthwise convolution with a single non-zero weight cuts a band, a padding decoder puts it in its place,
    and the bands are summed, which ONNX Runtime fuses with the convolutions. All bands share one bias.
    """

    def build(b: GraphBuilder, layer: Layer, x: str) -> str:
        total, rows = "", layer.grid[0]
        for tile in _tiles(layer, (bands, 1)):
            (window, _), pads = _input_windows(layer, tile, padded=False)
            hidden = _encode(b, layer, _cut_rows(b, layer, x, window), rank, pads)
            weight = b.weights(layer.outputs, rank, *_POINT)
            operands = [hidden, weight] if total else [hidden, weight, b.weights(layer.outputs)]
            part = b.node("Conv", operands, kernel_shape=_POINT, pads=[tile[0], 0, rows - tile[1], 0])
            total = b.node("Add", [part, total]) if total else part
        return b.node("Relu", [total])

    return build


def _cut_rows(b: GraphBuilder, layer: Layer, x: str, window: tuple[int, int]) -> str:
    first, after = window[0], layer.input_grid[0] - window[1]
    if not first and not after:
        return x
    step = max(first, after)
    taps = [0.0, 1.0, 0.0] if first and after else ([0.0, 1.0] if first else [1.0, 0.0])
    weight = np.zeros((layer.inputs, 1, len(taps), 1), dtype=np.float32) + np.array(taps, dtype=np.float32)[:, None]
    pads = [step - first, 0, step - after, 0] if first and after else [0, 0, 0, 0]
    return b.node(
        "Conv", [x, b.constant(weight)], kernel_shape=[len(taps), 1], dilations=[step, 1], pads=pads, group=layer.inputs
    )


def _even_size(layer: Layer, grid: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of equal tiles that cover the map."""
    rows, columns = (-(-positions // count) for positions, count in zip(layer.grid, grid, strict=True))
    return rows, columns


def _tile_rows(layer: Layer, grid: tuple[int, int]) -> list[list[Rectangle]]:
    """Output positions of each region, one list per row of regions."""
    rows, columns = ([round(i * n / g) for i in range(g + 1)] for n, g in zip(layer.grid, grid, strict=True))
    return [[(*row, *column) for column in pairwise(columns)] for row in pairwise(rows)]


def _tiles(layer: Layer, grid: tuple[int, int]) -> list[Rectangle]:
    """Output positions of each region."""
    return [tile for row in _tile_rows(layer, grid) for tile in row]


def _input_windows(
    layer: Layer, tile: Rectangle, padded: bool
) -> tuple[list[tuple[int, int]], tuple[int, int, int, int]]:
    """Rows and columns of input that a tile reads, and its zero padding: top, left, bottom, right."""
    left, _, top, _ = layer.padding
    windows, zeros = [], []
    for axis, before in enumerate((top, left)):
        first, end = tile[2 * axis], tile[2 * axis + 1]
        start = first * layer.stride[axis]
        stop = (end - 1) * layer.stride[axis] + reach(layer)[axis]
        if padded:
            windows.append((start, stop))
            zeros.append((0, 0))
            continue
        size = layer.input_grid[axis]
        windows.append((max(start - before, 0), min(stop - before, size)))
        zeros.append((max(before - start, 0), max(stop - before - size, 0)))
    return windows, (zeros[0][0], zeros[1][0], zeros[0][1], zeros[1][1])
