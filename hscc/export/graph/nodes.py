"""Read and rewrite single nodes of an ONNX graph (ONNX operator reference, opset 13 and newer)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Window = dict[int, tuple[int, int]]  # axis to first and end index
Array = npt.NDArray[Any]
_SLICE_OPERANDS = ("starts", "ends", "axes")


def operand(node: ir.Node, index: int) -> ir.Value | None:
    """Give an input of a node, or None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def source(node: ir.Node) -> ir.Value:
    """Give the first input of a node that has one."""
    value = node.inputs[0]
    assert value is not None
    return value


def constant(value: ir.Value | None) -> Array | None:
    """Give a value that is the same in every run, or None."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def axis_of(node: ir.Node, default: int = 0) -> int | None:
    """Give the attribute ``axis`` counted from the front, or None where the rank of the input is unknown."""
    shape = source(node).shape
    if shape is None:
        return None
    return node.attributes.get_int("axis", default) % len(shape)


def flag(node: ir.Node, name: str) -> bool:
    """Whether an attribute that is 0 or 1 and 0 by default is set."""
    return node.attributes.get_int(name, 0) != 0


def static_size(value: ir.Value, axis: int) -> int | None:
    """Give the length of an axis, or None where it is not fixed."""
    if value.shape is None or not axis < len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def resize(value: ir.Value, sizes: Mapping[int, int]) -> None:
    """Note new lengths of some axes of a value."""
    if value.shape is not None:
        value.shape = ir.Shape([sizes.get(axis, size) for axis, size in enumerate(value.shape)])


def put_constant(node: ir.Node, index: int, array: Array) -> None:
    """Give a node a constant of its own; other readers keep the old one.

    Parameters
    ----------
    node : ir.Node
        In a graph.
    index : int
        Which of its inputs.
    array : ndarray
        The new constant.
    """
    graph, old = node.graph, node.inputs[index]
    assert graph is not None
    free = old is not None and old.is_initializer() and len(old.uses()) == 1
    base = old.name if old is not None and old.name else f"{node.outputs[0].name}.operand{index}"
    name = base if free else _unused(graph, base)
    value = ir.Value(
        name=name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
        const_value=ir.tensor(np.ascontiguousarray(array), name=name),
    )
    node.replace_input_with(index, value)
    if free:
        del graph.initializers[name]
    graph.register_initializer(value)


def skip(node: ir.Node, replacement: ir.Value) -> None:
    """Let the readers of a node's only output read something else, and remove the node."""
    assert node.graph is not None
    node.outputs[0].replace_all_uses_with(replacement)
    node.graph.remove(node, safe=True)


def is_inner(value: ir.Value) -> bool:
    """Whether a value is neither put into the graph nor out of it."""
    return not value.is_graph_input() and not value.is_graph_output()


def read_window(node: ir.Node) -> Window | None:
    """Read what a Slice keeps, or None where that is not fixed or not contiguous.

    Parameters
    ----------
    node : ir.Node
        A Slice.

    Returns
    -------
    dict or None
        For each axis it names, the first and the end index.
    """
    read = [_integers(operand(node, index)) for index in range(1, 5)]
    starts, ends = read[0], read[1]
    if starts is None or ends is None or any(
        found is None and operand(node, index) is not None for index, found in enumerate(read, 1)
    ):  # fmt: skip
        return None
    axes = read[2] if read[2] is not None else list(range(len(starts)))
    if any(step != 1 for step in read[3] or []):
        return None
    data = source(node)
    window: Window = {}
    for axis, start, end in zip(axes, starts, ends, strict=True):
        place = axis % len(data.shape) if data.shape is not None else -1
        size = static_size(data, place)
        if size is None:
            return None
        first, last, _ = slice(start, end).indices(size)
        window[place] = (first, last)
    return window


def write_window(node: ir.Node, window: Window) -> None:
    """Let a Slice keep another window of its input."""
    node.resize_inputs(1)
    node.resize_inputs(1 + len(_SLICE_OPERANDS))
    axes = sorted(window)
    for index, values in enumerate(([window[a][0] for a in axes], [window[a][1] for a in axes], axes), start=1):
        put_constant(node, index, np.array(values, dtype=np.int64))
    resize(node.outputs[0], {axis: end - first for axis, (first, end) in window.items()})


def zero_pads(node: ir.Node) -> Window | None:
    """Read a Pad that puts zeros around rows and columns, or None for any other.

    Parameters
    ----------
    node : ir.Node
        A Pad.

    Returns
    -------
    dict or None
        For each axis from the third on, zeros before and behind.
    """
    amounts, fill, axes = (_integers(operand(node, 1)), constant(operand(node, 2)), _integers(operand(node, 3)))
    shape = source(node).shape
    if amounts is None or shape is None or node.attributes.get_string("mode", "constant") != "constant":
        return None
    if (operand(node, 2) is not None and (fill is None or fill.any())) or (operand(node, 3) is not None and not axes):
        return None
    places = [axis % len(shape) for axis in axes] if axes else list(range(len(shape)))
    pads = {axis: (amounts[i], amounts[i + len(places)]) for i, axis in enumerate(places)}
    if any(low < 0 or high < 0 for low, high in pads.values()):
        return None
    if any(axis < 2 and any(amount) for axis, amount in pads.items()):
        return None
    return {axis: pads.get(axis, (0, 0)) for axis in range(2, len(shape))}


def _integers(value: ir.Value | None) -> list[int] | None:
    array = constant(value)
    return None if array is None else [int(entry) for entry in array.ravel()]


def _unused(graph: ir.Graph, base: str) -> str:
    taken: Sequence[str] = [name for name in graph.initializers if name.startswith(base)]
    number = 1
    while f"{base}.{number}" in taken:
        number += 1
    return f"{base}.{number}"
