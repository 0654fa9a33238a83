"""Tiny networks of hscc's own modules as ONNX graphs, and what ONNX Runtime says of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from hscc.calibration.layers import find_layers
from hscc.export.to_onnx import write_onnx
from hscc.structures.base import Structure, Tiles
from hscc.structures.low_rank import Block, LowRank, Region

SIDE = 18


def region(tiles: Tiles, *blocks: tuple[list[int], int]) -> Region:
    return Region(tiles, tuple(Block(tuple(channels), rank) for channels, rank in blocks))


def low_rank(*regions: Region) -> LowRank:
    return LowRank(4, regions)


def factored(network: nn.Sequential, structures: dict[str, Structure]) -> nn.Sequential:
    """Put factored layers with random weights into a network."""
    layers = {layer.name: layer for layer in find_layers(network, (3, SIDE, SIDE))[0]}
    for name, structure in structures.items():
        network[int(name)] = structure.module(layers[name])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(
                    0.1 + torch.rand(tensor.shape, generator=generator) * 0.5 * torch.randn(tensor.shape).sign()
                )
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.abs_()
    return network.eval()


def exported(network: nn.Module) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(network, Path(folder) / "model.onnx", (3, SIDE, SIDE), tolerance=1e-3)
        return onnx.load(Path(folder) / "model.onnx")


def kinds(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in proto.graph.node)


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {entry.name: onnx.numpy_helper.to_array(entry) for entry in proto.graph.initializer}


def opened(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """One thread: others would wait for work by spinning."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, count: int) -> np.ndarray:
    name = session.get_inputs()[0].name
    shape = [count, *(size for size in session.get_inputs()[0].shape[1:])]
    images = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    (result,) = session.run(None, {name: images})
    return result


def assert_same(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    onnx.checker.check_model(after, full_check=True)
    before, after = opened(before), opened(after)
    for count in (1, 3):
        expected = run(before, count)
        np.testing.assert_allclose(run(after, count), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
