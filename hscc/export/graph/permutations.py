"""Fold an order of channels into the weights around it, so that no run has to put channels in order.

A Gather along the channels (what `index_select` exports to) copies its whole input. Where the values before it are
tied by operations that treat each channel alike up to layers whose outputs can come in any order, those layers' weights
take the order instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hscc.export.graph.nodes import (
    axis_of,
    constant,
    flag,
    is_inner,
    operand,
    put_constant,
    read_window,
    resize,
    skip,
    source,
    static_size,
    zero_pads,
)

Order = npt.NDArray[np.int64]
_CHANNELS = 1
# Each output channel of these is computed from the same input channel by the same formula.
_ALIKE = {
    "AveragePool", "Clip", "Dropout", "Elu", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "MaxPool", "Relu", "Sigmoid", "Tanh",
}  # fmt: skip
_PAIRWISE = {"Add", "Mul", "Sub"}


@dataclass
class _Tied:
    """Values whose channels must keep one common order, and the nodes that take a new order into their constants."""

    values: set[ir.Value] = field(default_factory=set)
    writers: list[ir.Node] = field(default_factory=list)
    norms: list[ir.Node] = field(default_factory=list)
    readers: list[ir.Node] = field(default_factory=list)
    gathers: list[ir.Node] = field(default_factory=list)


def fold_orders(graph: ir.Graph) -> bool:
    """Drop every Gather along the channels whose order the layers before it can take.

    Left alone: values that a second Gather reads in another order, that something reads which cannot take the order
    (a grouped or depthwise convolution, a concatenation along the channels, a flattening), or that leave the graph.
    A Gather of some of the channels is dropped if nobody reads the others.

    Parameters
    ----------
    graph : ir.Graph
        Changed in place.

    Returns
    -------
    bool
        Whether anything was changed.
    """
    changed = False
    for node in list(graph):
        if node.graph is None:  # removed together with another
            continue
        order = _order(node)
        if order is None or not is_inner(node.outputs[0]):
            continue
        tied = _tie(source(node), order)
        if tied is not None:
            _reorder(tied, order)
            changed = True
    return changed


def _order(node: ir.Node) -> Order | None:
    """The channels that a Gather picks, each at most once, or None for any other node."""
    if node.op_type != "Gather" or axis_of(node) != _CHANNELS:
        return None
    indices, channels = constant(operand(node, 1)), static_size(source(node), _CHANNELS)
    if indices is None or indices.ndim != 1 or channels is None:
        return None
    order: Order = indices.astype(np.int64) % channels
    return order if len(set(order.tolist())) == len(order) else None


def _tie(start: ir.Value, order: Order) -> _Tied | None:
    """Collect all that has to change with the order of one value, or None where something cannot."""
    complete = len(order) == static_size(start, _CHANNELS)
    tied, waiting = _Tied(), [start]
    while waiting:
        value = waiting.pop()
        if value in tied.values:
            continue
        tied.values.add(value)
        producer = value.producer()
        if producer is None or not is_inner(value):
            return None
        if _writes(producer, complete):
            tied.writers.append(producer)
        elif (inputs := _alike(producer)) is not None:
            waiting += inputs
            if producer.op_type == "BatchNormalization":
                tied.norms.append(producer)
        else:
            return None
        for user, index in value.uses():
            found = _order(user) if index == 0 else None
            if found is not None and np.array_equal(found, order) and is_inner(user.outputs[0]):
                tied.gathers.append(user)
            elif (inputs := _alike(user)) is not None and any(value is other for other in inputs):
                waiting.append(user.outputs[0])
            elif complete and index == 0 and _reads(user):
                tied.readers.append(user)
            elif user.op_type == "Shape" and user.attributes.get_int("end", _CHANNELS + 1) == _CHANNELS:
                continue  # asks for the batch only
            else:
                return None
    return tied


def _writes(node: ir.Node, complete: bool) -> bool:
    """Whether a node's output channels come in the order of its constants."""
    weight, bias = constant(operand(node, 1)), operand(node, 2)
    if node.op_type == "Conv":
        return node.attributes.get_int("group", 1) == 1 and weight is not None and _known(bias)
    if node.op_type == "Gemm":
        return weight is not None and _known(bias)
    if node.op_type == "Expand":  # the output of a constant region; its shape operand may name the number of channels
        spread = constant(operand(node, 0))
        return complete and spread is not None and spread.ndim == 4 and spread.shape[_CHANNELS] > 1
    return False


def _reads(node: ir.Node) -> bool:
    """Whether a node's input channels come in the order of its weight."""
    if constant(operand(node, 1)) is None:
        return False
    if node.op_type == "Conv":
        return node.attributes.get_int("group", 1) == 1
    return node.op_type == "Gemm" and not flag(node, "transA")


def _alike(node: ir.Node) -> list[ir.Value] | None:
    """Inputs whose channels a node's output keeps in order, or None."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return None
    first = operand(node, 0)
    if first is None or first.shape is None or node.outputs[0].shape is None:
        return None
    if node.op_type in _ALIKE:
        return [first]
    if node.op_type == "BatchNormalization":
        return [first] if all(constant(operand(node, index)) is not None for index in range(1, 5)) else None
    if node.op_type == "Slice":
        window = read_window(node)
        return [first] if window is not None and _CHANNELS not in window else None
    if node.op_type == "Pad":
        return [first] if zero_pads(node) is not None else None
    if node.op_type == "Concat":
        return _given(node) if axis_of(node) not in (None, _CHANNELS) else None
    if node.op_type in _PAIRWISE:  # a broadcast along the channels, or one that shifts the axes, ties nothing
        values = _given(node)
        forms = {_form(value) for value in [*values, node.outputs[0]]}
        return values if len(forms) == 1 and None not in forms else None
    return None


def _given(node: ir.Node) -> list[ir.Value]:
    return [value for value in node.inputs if value is not None]


def _form(value: ir.Value) -> tuple[int, int] | None:
    channels = static_size(value, _CHANNELS)
    return None if channels is None or value.shape is None else (len(value.shape), channels)


def _known(bias: ir.Value | None) -> bool:
    return bias is None or constant(bias) is not None


def _reorder(tied: _Tied, order: Order) -> None:
    for node in dict.fromkeys(tied.writers):
        if node.op_type == "Expand":
            _take(node, 0, order, _CHANNELS)
        else:
            _take(node, 1, order, 0 if node.op_type == "Conv" or flag(node, "transB") else 1)
            _take(node, 2, order, -1)
    for node in dict.fromkeys(tied.norms):
        for index in range(1, 5):
            _take(node, index, order, 0)
    for node in dict.fromkeys(tied.readers):
        _take(node, 1, order, 1 if node.op_type == "Conv" or flag(node, "transB") else 0)
    for value in tied.values:
        resize(value, {_CHANNELS: len(order)})
    for node in dict.fromkeys(tied.gathers):
        skip(node, source(node))


def _take(node: ir.Node, index: int, order: Order, axis: int) -> None:
    array = constant(operand(node, index))
    if array is not None and array.ndim and array.shape[axis] > 1:  # a Gemm's bias may be one number for all
        put_constant(node, index, array.take(order, axis=axis))
