"""Layers in structures as ONNX graphs to be timed, in the surroundings that they have inside a network.

Inside a network ONNX Runtime keeps feature maps in blocks of channels (NCHWc) from one convolution to the next; alone,
a layer would pay for the way there and back at each call. So a 1 x 1 max pooling, which keeps that layout, stands
before and behind the layer; of two dimensions, for only these have that layout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
from torch import nn

from hscc.calibration.layers import Layer
from hscc.export.graph.simplify import simplify
from hscc.export.to_onnx import runtime_onnx, to_onnx
from hscc.structures.base import SIMD_WIDTH, Structure

_BLOCKED = SIMD_WIDTH  # channels from which on a pooling keeps the blocked layout


def layer_graphs(layer: Layer, structures: Sequence[Structure]) -> Iterator[onnx.ModelProto]:
    """Export a layer in structures that differ in their ranks, with a ReLU behind it and poolings that keep the layout.

    Torch's exporter takes 0.5 s for two convolutions and 2 s for 16 regions, several times what the timing takes. Ranks
    are only in the shapes of the weights, so the first structure is exported and the weights of the others are put into
    that graph.

    Parameters
    ----------
    layer : Layer
        The layer.
    structures : sequence of Structure
        What takes its place, of one `Structure.timing_key`. Weights are random: equal ones would be stored once, and
        reading them would take less time.
    """
    exported: onnx.ModelProto | None = None
    for structure in structures:
        module = _framed(layer, structure)
        if exported is None:
            exported = to_onnx(module, (layer.inputs, *layer.input_grid) if layer.kind == "conv" else (layer.inputs,))
            yield simplify(exported)
        else:
            yield simplify(_with_weights(exported, module))


def frame_graph(channels: int, grid: tuple[int, ...]) -> onnx.ModelProto:
    """Export the poolings before and behind a layer, without the layer."""
    frame = _frame(channels, len(grid))
    return runtime_onnx(nn.Sequential(*frame, nn.Identity(), *frame), (channels, *grid))


def _framed(layer: Layer, structure: Structure) -> nn.Module:
    inside = [structure.module(layer), nn.ReLU()]
    if layer.kind == "conv":
        inside = [*_frame(layer.inputs, layer.axes), *inside, *_frame(layer.outputs, layer.axes)]
    return nn.Sequential(*inside).eval()


def _frame(channels: int, axes: int) -> list[nn.Module]:
    return [nn.MaxPool2d(1)] if axes == 2 and channels >= _BLOCKED else []


def _with_weights(exported: onnx.ModelProto, module: nn.Module) -> onnx.ModelProto:
    """Put the weights of a module into the export of one that differs in its ranks."""
    weights = {name: weight.detach().numpy() for name, weight in module.named_parameters()}
    graph = onnx.ModelProto()
    graph.CopyFrom(exported)
    for entry in graph.graph.initializer:
        if entry.name in weights:
            entry.CopyFrom(onnx.numpy_helper.from_array(weights.pop(entry.name), entry.name))
    assert not weights, f"{sorted(weights)} are not in the exported graph"
    del graph.graph.value_info[:]
    return onnx.shape_inference.infer_shapes(graph)
