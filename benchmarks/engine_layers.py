"""Single layers of AlexNet in the engine and in ONNX Runtime, dense and as Tucker-2.

    python -m benchmarks.engine_layers

Both get and return channels first, so both times hold their changes of layout; the last columns are the
engine's operations alone.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

import hscc
from benchmarks.common import new_table
from hscc.budgets.latency_table import this_machine
from hscc.calibration.layers import Layer
from hscc.export.to_onnx import runtime_onnx
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.timing.alternation import time_pair
from hscc.timing.sessions import open_graph

_BATCHES, _THREADS = (1, 16), 2
_PAIRS, _SECONDS = 101, 3.0


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int | None = None) -> nn.Module:
    """Make a dense convolution and its activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if padding is None else padding), nn.ReLU()
    )


def tucker(inputs: int, projected: int, hidden: int, outputs: int, kernel: int) -> nn.Module:
    """Make a convolution between two of size 1, as a structure that the engine runs in one pass."""
    side, edge = {5: 27, 3: 13}[kernel], kernel // 2
    layer = Layer(
        "layer", "conv", inputs, outputs, (kernel, kernel), (1, 1), (1, 1), (edge,) * 4, "constant",
        (side, side), (side, side), True,
    )  # fmt: skip
    structure = LowRank(1, (Region(((0, 1, 0, 1),), (Block(tuple(range(projected)), hidden),)),), projection=projected)
    return nn.Sequential(structure.module(layer), nn.ReLU())


def layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Name each layer, with the shape of its input."""
    return {
        "3 -> 64, 11x11, stride 4": (convolution(3, 64, 11, 4, 2), (3, 224, 224)),
        "64 -> 192, 5x5": (convolution(64, 192, 5), (64, 27, 27)),
        "192 -> 384, 3x3": (convolution(192, 384, 3), (192, 13, 13)),
        "384 -> 256, 3x3": (convolution(384, 256, 3), (384, 13, 13)),
        "256 -> 256, 3x3": (convolution(256, 256, 3), (256, 13, 13)),
        "9216 -> 4096": (nn.Sequential(nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU()), (256, 6, 6)),
        "4096 -> 4096": (nn.Sequential(nn.Flatten(), nn.Linear(4096, 4096), nn.ReLU()), (4096, 1, 1)),
        "64 -> 16 -> 64 -> 192, 5x5": (tucker(64, 16, 64, 192, 5), (64, 27, 27)),
        "192 -> 48 -> 96 -> 384, 3x3": (tucker(192, 48, 96, 384, 3), (192, 13, 13)),
        "384 -> 64 -> 64 -> 256, 3x3": (tucker(384, 64, 64, 256, 3), (384, 13, 13)),
        "256 -> 48 -> 48 -> 256, 3x3": (tucker(256, 48, 48, 256, 3), (256, 13, 13)),
    }


def main() -> None:
    """Time the layers."""
    table = new_table(
        f"{this_machine('engine')}, {_THREADS} threads",
        "layer",
        "engine ms b1, b16, ONNX Runtime / engine b1, b16, operation ms b1, b16",
    )
    for name, (network, shape) in layers().items():
        torch.manual_seed(0)
        network.eval()
        session = open_graph(runtime_onnx(network, shape), _THREADS)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "layer.hscc"
            hscc.export_engine(network, path, input_shape=shape)
            engine = hscc.Engine(path, threads=_THREADS)
        entry = session.get_inputs()[0].name
        pairs, inside = [], []
        for batch in _BATCHES:
            images = np.random.default_rng(0).standard_normal((batch, *shape), np.float32)
            pairs.append(
                time_pair(partial(session.run, None, {entry: images}), partial(engine, images), _PAIRS, _SECONDS)
            )
            inside.append(
                sum(each.milliseconds for each in engine.profile(images) if each.operation not in ("input", "output"))
            )
        table.add_row(
            name,
            *(f"{pair.other_ms.median:.3f}" for pair in pairs),
            *(f"{pair.speedup.median:.2f}" for pair in pairs),
            *(f"{each:.3f}" for each in inside),
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
