"""Spread the signal of a low-rank layer evenly over its hidden channels, so that eight bits suffice for all of them.

Between the two factors of a layer there is no nonlinearity, so any orthogonal matrix Q may stand there: the first
factor becomes Q W1, the second W2 Q^T, and the network computes the same. An SVD gives hidden channels whose energies
differ by orders of magnitude, yet int8 has one scale for a whole tensor, and the rounding that suits the strongest is
coarse for all others. After a random rotation they are alike. It costs nothing at run time. The idea is that of QuIP
(Chee et al., NeurIPS 2023) and QuaRot (Ashkboos et al., NeurIPS 2024) for language models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Link:
    """Two operators with weights and nothing but a concatenation of channels between them.

    Attributes
    ----------
    first, second : onnx.NodeProto
        The operators.
    offset : int
        Which input channel of the second is the first output channel of the first.
    """

    first: onnx.NodeProto
    second: onnx.NodeProto
    offset: int


class _Graph:
    """Who makes and who reads each tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.weights = {entry.name: entry for entry in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.outputs = {entry.name for entry in graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """Return the one operator that reads a tensor; None where there are several, or the caller reads it too."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def rotatable(self, node: onnx.NodeProto | None) -> bool:
        """Whether an operator is a product with weights of its own, an output channel a row."""
        if node is None or node.op_type not in ("Conv", "Gemm"):
            return False
        if node.op_type == "Gemm" and (_attribute(node, "transB", 0) != 1 or _attribute(node, "transA", 0) != 0):
            return False
        return all(name in self.weights and len(self.readers[name]) == 1 for name in node.input[1:])

    def channels(self, name: str) -> int | None:
        """Count the channels of a tensor that an operator with weights makes; None for any other."""
        maker = self.makers.get(name)
        return int(self.weights[maker.input[1]].dims[0]) if maker is not None and self.rotatable(maker) else None

    def read(self, name: str) -> Matrix:
        """Read a weight."""
        return numpy_helper.to_array(self.weights[name]).astype(np.float64)

    def write(self, name: str, value: Matrix) -> None:
        """Replace a weight."""
        self.weights[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))


def rotate_hidden(network: onnx.ModelProto, seed: int = 0) -> int:
    """Rotate the hidden channels between every two directly connected convolutions or linear layers, in place.

    Channels are mixed only where both sides allow it: inside a group of a grouped convolution, and inside what one
    operator puts into a concatenation. Weights that several operators share stay as they are.

    Parameters
    ----------
    network : onnx.ModelProto
        A network of floats; computes the same afterwards, to rounding.
    seed : int
        Of the random rotations.

    Returns
    -------
    int
        How many operators were rotated.
    """
    graph = _Graph(network.graph)
    generator = np.random.default_rng(seed)
    links = list(_links(network.graph, graph))
    for link in links:
        _rotate(link, graph, generator)
    return len(links)


def _links(proto: onnx.GraphProto, graph: _Graph) -> Iterator[_Link]:
    for node in proto.node:
        if not graph.rotatable(node):
            continue
        reader, name, offset = graph.only_reader(node.output[0]), node.output[0], 0
        if reader is not None and reader.op_type == "Concat" and _attribute(reader, "axis", 0) == 1:
            before = [graph.channels(other) for other in list(reader.input)[: list(reader.input).index(name)]]
            if None in before:
                continue
            offset = sum(count for count in before if count is not None)
            name = reader.output[0]
            reader = graph.only_reader(name)
        if graph.rotatable(reader) and reader is not None and reader.input[0] == name:
            yield _Link(node, reader, offset)


def _rotate(link: _Link, graph: _Graph, generator: np.random.Generator) -> None:
    first, second = graph.read(link.first.input[1]), graph.read(link.second.input[1])
    bias = graph.read(link.first.input[2]) if len(link.first.input) > 2 else np.zeros(len(first))
    groups = _attribute(link.second, "group", 1)
    per_group = second.shape[1]  # input channels of a group of the second
    block = len(first) // _attribute(link.first, "group", 1)
    if groups > 1:  # a block may not reach over the border of a group
        block = math.gcd(block, per_group, link.offset)
    rows = len(second) // groups
    for start in range(0, len(first), block):
        rotation = _orthogonal(block, generator)
        mixed = slice(start, start + block)
        first[mixed] = np.tensordot(rotation, first[mixed], 1)
        bias[mixed] = rotation @ bias[mixed]
        group, column = divmod(link.offset + start, per_group)
        part = second[group * rows : (group + 1) * rows, column : column + block]
        part[:] = np.moveaxis(np.tensordot(part, rotation, ([1], [1])), -1, 1)
    graph.write(link.first.input[1], first)
    graph.write(link.second.input[1], second)
    if len(link.first.input) > 2:
        graph.write(link.first.input[2], bias)


def _orthogonal(size: int, generator: np.random.Generator) -> Matrix:
    """Draw a rotation evenly over all of them: the Q of a Gaussian matrix, with the signs of R (Mezzadri 2007)."""
    q, r = np.linalg.qr(generator.standard_normal((size, size)))
    rotation: Matrix = q * np.sign(np.diag(r))
    return rotation


def _attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    return next((int(entry.i) for entry in node.attribute if entry.name == name), default)
