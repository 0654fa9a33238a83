"""Two linear layers with nothing between them become one where their product costs no more."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from hscc.export.graph.nodes import constant, flag, is_inner, operand, put_constant, skip, source, static_size

Weights = npt.NDArray[np.float64]


def merge_pairs(graph: ir.Graph) -> bool:
    """Merge pairs of convolutions, one of them 1 x 1, and pairs of linear layers.

    The product takes their place if it needs at most as many multiply-accumulates as the two; a low-rank
    pair of nearly full rank needs more than the layer it came from.

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
        before = _only_source(node)
        if before is None:
            continue
        if node.op_type == before.op_type == "Gemm" and _plain(node) and _plain(before):
            changed |= _merge_linear(before, node)
        elif node.op_type == before.op_type == "Conv" and _explicit(node) and _explicit(before):
            changed |= _merge_decoder(before, node) or _merge_encoder(before, node)
    return changed


def _only_source(node: ir.Node) -> ir.Node | None:
    """The node that a node's data come from, if nobody else reads them and the weights of both are known."""
    value = operand(node, 0)
    before = value.producer() if value is not None else None
    if value is None or before is None or len(value.uses()) > 1 or not is_inner(value):
        return None
    known = all(
        constant(operand(one, 1)) is not None and (operand(one, 2) is None or constant(operand(one, 2)) is not None)
        for one in (before, node)
    )
    return before if known else None


def _plain(node: ir.Node) -> bool:
    """Whether a Gemm computes x W + b of rows x."""
    scales = (node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0))
    return scales == (1.0, 1.0) and not flag(node, "transA")


def _explicit(node: ir.Node) -> bool:
    """Whether a convolution is two-dimensional and its zeros are spelled out."""
    return node.attributes.get_string("auto_pad", "NOTSET") == "NOTSET" and len(_weight_shape(node)) == 4


def _merge_linear(first: ir.Node, second: ir.Node) -> bool:
    inner, outer = (_columns(node) for node in (first, second))
    if inner.shape[0] * outer.shape[1] > inner.size + outer.size:
        return False
    bias = _bias(first, inner.shape[1]) @ outer + _bias(second, outer.shape[1])
    _put(second, (inner @ outer).T if flag(second, "transB") else inner @ outer, bias)
    skip(first, source(first))
    return True


def _columns(node: ir.Node) -> Weights:
    """Weights of a Gemm, shape (inputs, outputs)."""
    weight = _weight(node)
    return weight.T if flag(node, "transB") else weight


def _merge_decoder(first: ir.Node, second: ir.Node) -> bool:
    """Merge a convolution of any kind with a 1 x 1 one behind it."""
    if not _pointwise(second):
        return False
    groups = first.attributes.get_int("group", 1)
    outputs, hidden = _weight_shape(second)[:2]
    _, inputs, *kernel = _weight_shape(first)
    product = outputs * inputs * groups * math.prod(kernel)
    if product > hidden * inputs * math.prod(kernel) + outputs * hidden:
        return False
    weight, decoder = _weight(first), _weight(second)[:, :, 0, 0]
    per_group = [
        np.einsum("or,rikl->oikl", part, rows)
        for part, rows in zip(np.split(decoder, groups, axis=1), np.split(weight, groups), strict=True)
    ]
    bias = decoder @ _bias(first, hidden) + _bias(second, outputs)
    second.attributes.update(first.attributes)
    second.attributes["group"] = ir.AttrInt64("group", 1)
    _put(second, np.concatenate(per_group, axis=1), bias)
    skip(first, source(first))
    return True


def _merge_encoder(first: ir.Node, second: ir.Node) -> bool:
    """Merge a 1 x 1 convolution with a k x k one behind it.

    Zeros around the hidden channels are not zeros around the input if the first one has a bias.
    """
    if not _pointwise(first) or second.attributes.get_int("group", 1) != 1:
        return False
    hidden, inputs = _weight_shape(first)[:2]
    if any(second.attributes.get_ints("pads", ())) and _bias(first, hidden).any():
        return False
    outputs, _, *kernel = _weight_shape(second)
    positions = [_positions(node) for node in (first, second)]
    if positions[0] is None or positions[1] is None:
        return False
    pair = hidden * inputs * positions[0] + math.prod(_weight_shape(second)) * positions[1]
    if outputs * inputs * math.prod(kernel) * positions[1] > pair:
        return False
    weight, encoder = _weight(second), _weight(first)[:, :, 0, 0]
    bias = np.einsum("orkl,r->o", weight, _bias(first, hidden)) + _bias(second, outputs)
    _put(second, np.einsum("orkl,ri->oikl", weight, encoder), bias)
    skip(first, source(first))
    return True


def _pointwise(node: ir.Node) -> bool:
    """Whether a convolution maps each position by itself, all channels to all."""
    return (
        node.attributes.get_int("group", 1) == 1
        and math.prod(_weight_shape(node)[2:]) == 1
        and not any(node.attributes.get_ints("pads", ()))
        and all(step == 1 for step in node.attributes.get_ints("strides", ()))
    )


def _positions(node: ir.Node) -> int | None:
    rows, columns = (static_size(node.outputs[0], axis) for axis in (2, 3))
    return None if rows is None or columns is None else rows * columns


def _weight_shape(node: ir.Node) -> tuple[int, ...]:
    weight = constant(operand(node, 1))
    assert weight is not None
    return weight.shape


def _weight(node: ir.Node) -> Weights:
    weight = constant(operand(node, 1))
    assert weight is not None
    return weight.astype(np.float64)


def _bias(node: ir.Node, outputs: int) -> Weights:
    bias = constant(operand(node, 2))
    return np.zeros(outputs) if bias is None else np.broadcast_to(bias.astype(np.float64).ravel(), outputs)


def _put(node: ir.Node, weight: Weights, bias: Weights) -> None:
    """Replace weight and bias in the type that the weight has."""
    old = constant(operand(node, 1))
    assert old is not None
    put_constant(node, 1, weight.astype(old.dtype))
    node.resize_inputs(3)
    put_constant(node, 2, bias.astype(old.dtype))
