"""What regions leave behind: a Pad and Slices before them, a Concat and an activation behind them.

Three rewrites change only where a thing is done: zeros are added by the region's own convolution, one Slice cuts a tile
where two would, and an activation is applied in each region, where ONNX Runtime fuses it with the convolution.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from hscc.export.graph.nodes import (
    Window,
    axis_of,
    constant,
    is_inner,
    operand,
    put_constant,
    read_window,
    resize,
    skip,
    source,
    static_size,
    write_window,
    zero_pads,
)

WIDEST = 3  # rows or columns of a kernel up to which padding by the convolution is faster; measured in docs/latency.md
_ACTIVATIONS = {"Clip", "LeakyRelu", "Relu"}  # those ONNX Runtime fuses with a convolution


def sink_pads(graph: ir.Graph, widest: int = WIDEST) -> bool:
    """Let convolutions add the zeros that a Pad in front of their Slices adds.

    Done where every path from the Pad leads through Slices of rows and columns, a Gather or a Split of channels to a
    convolution with a kernel that is small enough.

    Parameters
    ----------
    graph : ir.Graph
        Changed in place.
    widest : int
        Longest side of a kernel.

    Returns
    -------
    bool
        Whether anything was changed.
    """
    changed = False
    for node in list(graph):
        if node.op_type != "Pad" or not is_inner(node.outputs[0]):
            continue
        pads = zero_pads(node)
        sizes = {axis: static_size(source(node), axis) for axis in pads or {}}
        if not pads or None in sizes.values():
            continue
        lengths = {axis: size for axis, size in sizes.items() if size is not None}
        if _ends_in_convolutions(node.outputs[0], pads, lengths, widest):
            _sink(source(node), node.outputs[0], pads, lengths)
            graph.remove(node, safe=True)
            changed = True
    return changed


def _ends_in_convolutions(value: ir.Value, pads: Window, sizes: dict[int, int], widest: int) -> bool:
    if value.is_graph_output():
        return False
    for user, index in value.uses():
        if index != 0:
            return False
        if user.op_type == "Conv":
            kernel = user.attributes.get_ints("kernel_shape", ())
            if not kernel or max(kernel) > widest or user.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
                return False
        elif user.op_type == "Slice":
            cut = _cut(user, pads, sizes)
            if cut is None or not _ends_in_convolutions(user.outputs[0], cut[1], _lengths(cut[0]), widest):
                return False
        elif user.op_type in ("Gather", "Split") and axis_of(user) == 1:
            if not all(_ends_in_convolutions(output, pads, sizes, widest) for output in user.outputs):
                return False
        else:
            return False
    return bool(value.uses())


def _cut(node: ir.Node, pads: Window, sizes: dict[int, int]) -> tuple[Window, Window] | None:
    """What a Slice of a padded value keeps of the value without its pads, and the zeros that are then missing."""
    kept = read_window(node)
    if kept is None or not set(kept) <= set(pads):
        return None
    window, missing = {}, {}
    for axis, (low, high) in pads.items():
        first, end = kept.get(axis, (0, sizes[axis] + low + high))
        window[axis] = (min(max(first - low, 0), sizes[axis]), max(min(end - low, sizes[axis]), 0))
        missing[axis] = (max(low - first, 0), max(end - low - sizes[axis], 0))
        if window[axis][0] >= window[axis][1]:  # nothing but zeros
            return None
    return window, missing


def _lengths(window: Window) -> dict[int, int]:
    return {axis: end - first for axis, (first, end) in window.items()}


def _sink(bare: ir.Value, padded: ir.Value, pads: Window, sizes: dict[int, int]) -> None:
    """Let the readers of a padded value read the bare one, and pass the zeros on to the convolutions.

    From the convolutions backwards: a Slice is understood by the size of the value it cuts.
    """
    for user, _ in tuple(padded.uses()):
        if user.op_type == "Conv":
            _add_pads(user, pads)
        elif user.op_type == "Slice":
            cut = _cut(user, pads, sizes)
            assert cut is not None
            _sink(user.outputs[0], user.outputs[0], cut[1], _lengths(cut[0]))
            write_window(user, cut[0])
        else:
            for output in user.outputs:
                _sink(output, output, pads, sizes)
                resize(output, sizes)
        user.replace_input_with(0, bare)


def _add_pads(node: ir.Node, pads: Window) -> None:
    axes = sorted(pads)
    zeros = [pads[axis][0] for axis in axes] + [pads[axis][1] for axis in axes]
    own = node.attributes.get_ints("pads", [0] * len(zeros))
    assert own is not None
    node.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(own, zeros, strict=True)])


def merge_windows(graph: ir.Graph) -> bool:
    """Let a Slice of a Slice cut from the first one's input, and drop a Slice that keeps everything.

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
        if node.op_type != "Slice" or not is_inner(node.outputs[0]):
            continue
        window, data = read_window(node), source(node)
        if window is None:
            continue
        before = data.producer()
        outer = read_window(before) if before is not None and before.op_type == "Slice" else None
        if before is not None and outer is not None:
            node.replace_input_with(0, source(before))
            write_window(node, _inside(outer, window))
            if not data.uses() and not data.is_graph_output():
                graph.remove(before, safe=True)
            changed = True
        elif all((first, end) == (0, static_size(data, axis)) for axis, (first, end) in window.items()):
            skip(node, data)
            changed = True
    return changed


def _inside(outer: Window, inner: Window) -> Window:
    """Give the window of an input that a window of its window keeps."""
    merged = dict(outer)
    for axis, (first, end) in inner.items():
        start = outer[axis][0] if axis in outer else 0
        merged[axis] = (start + first, start + end)
    return merged


def push_activations(graph: ir.Graph) -> bool:
    """Apply an activation to each part of a Concat of tiles instead of to the whole.

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
        if node.op_type not in _ACTIVATIONS or not is_inner(node.outputs[0]):
            continue
        whole = operand(node, 0)
        before = whole.producer() if whole is not None else None
        if before is None or whole is None or len(whole.uses()) > 1 or whole.is_graph_output():
            continue
        if before.op_type == "Concat" and (axis_of(before) or 0) >= 2:
            _push(graph, node, before)
            changed = True
        elif (
            before.op_type == "Expand"
            and node.op_type == "Relu"
            and (spread := constant(operand(before, 0))) is not None
        ):
            put_constant(before, 0, np.maximum(spread, 0))
            skip(node, whole)
            changed = True
    return changed


def _push(graph: ir.Graph, activation: ir.Node, concat: ir.Node) -> None:
    for index, part in enumerate(concat.inputs):
        assert part is not None
        copy = ir.Node(
            activation.domain,
            activation.op_type,
            [part, *activation.inputs[1:]],
            activation.attributes,
            name=f"{activation.name}.{index}",
        )
        copy.outputs[0].name = f"{activation.outputs[0].name}.{index}"
        copy.outputs[0].shape, copy.outputs[0].type = part.shape, part.type
        graph.insert_before(concat, copy)
        concat.replace_input_with(index, copy.outputs[0])
    skip(activation, concat.outputs[0])
