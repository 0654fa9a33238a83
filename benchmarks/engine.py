"""What the engine makes of a compressed network's MACs, against ONNX Runtime and at equal time against other methods.

    python -m benchmarks.engine methods --budgets 4,6,10
    python -m benchmarks.engine regions
    python -m benchmarks.engine equal-time --budgets 6,10

`methods` and `equal-time` use the outputs of the stages train and calibrate and the validation split of the workspace
they run in; the test split stays unread. `regions` needs nothing. Nothing else should run meanwhile; all ratios are
medians of calls in turn.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from torch import nn
from torch.nn import functional as F

import hscc
from benchmarks.common import new_table
from hscc.budgets.latency_table import this_machine
from hscc.calibration.layers import Layer
from hscc.calibration.storage import load_calibration
from hscc.export.to_onnx import runtime_onnx
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.loading import read_splits
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.names import method_label
from hscc.pipeline.params import read_params
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.timing.alternation import Call, time_pair
from hscc.timing.sessions import open_graph
from hscc.training.distillation import teacher_logits

app = typer.Typer(add_completion=False)
_BATCHES, _THREADS = (1, 16), 2
_PAIRS, _SECONDS = 41, 4.0
_ROUNDS = 4  # of planning for a time, each corrected by what was measured
_EQUAL = 0.02  # relative difference of two times that counts as none

Budgets = Annotated[str, typer.Option(help="Times fewer MACs, separated by commas.")]
Methods = Annotated[str, typer.Option(help="Names in hscc.METHODS, separated by commas.")]


@dataclass
class Workspace:
    """The dense network of a workspace, its moments, and its validation images with the dense network's logits."""

    protocol: str

    @cached_property
    def dense(self) -> nn.Module:
        """The trained network."""
        return load_dense(Path(layout.baseline(self.protocol)) / "model.safetensors")[0].eval()

    @cached_property
    def calibration(self) -> hscc.Calibration:
        """Its moments."""
        return load_calibration(Path(layout.MOMENTS))

    @cached_property
    def validation(self):
        """The validation split."""
        _, card = load_dense(Path(layout.baseline(self.protocol)) / "model.safetensors")
        return read_splits(read_manifest(Path(layout.MANIFEST)), card.image_size, self.protocol, Path("."))[1]

    @cached_property
    def targets(self) -> torch.Tensor:
        """Logits of the dense network on the validation split."""
        return teacher_logits(self.dense, self.validation)

    def divergence(self, network: nn.Module) -> tuple[float, float]:
        """KL divergence from the dense network on the validation split, and its standard error."""
        logits = teacher_logits(network, self.validation)
        terms = F.kl_div(logits.log_softmax(1), self.targets.log_softmax(1), log_target=True, reduction="none").sum(1)
        return float(terms.mean()), float(terms.std() / len(terms) ** 0.5)

    def plan(self, method: str, budget: hscc.Budget) -> hscc.Plan:
        """Plan at a budget with seed 0."""
        return hscc.plan(self.dense, self.calibration, hscc.METHODS[method], budget, 0)


def _engine_calls(network: nn.Module, shape: tuple[int, ...]) -> dict[int, Call]:
    """One run of a network in the engine at each batch size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.hscc"
        hscc.export_engine(network, path, input_shape=shape)
        return {
            batch: partial(hscc.Engine(path, threads=_THREADS), _images(batch, shape)) for batch in _BATCHES
        }  # fmt: skip


def _onnx_calls(network: nn.Module, shape: tuple[int, ...]) -> dict[int, Call]:
    """One run of a network in ONNX Runtime at each batch size."""
    session = open_graph(runtime_onnx(network, shape), _THREADS)
    name = session.get_inputs()[0].name
    return {batch: partial(session.run, None, {name: _images(batch, shape)}) for batch in _BATCHES}


def _images(batch: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, *shape), np.float32)


def _faster(old: Call, new: Call) -> float:
    return time_pair(old, new, _PAIRS, _SECONDS).speedup.median


@app.command()
def methods(
    budgets: Budgets = "4,6,10",
    names: Methods = "global_svd_adaptive,tucker_adaptive,hscc",
) -> None:
    """Time and divergence of each method at equal MACs, before fine-tuning."""
    space = Workspace(read_params().data.protocol)
    shape = space.calibration.input_shape
    dense_onnx, dense_engine = _onnx_calls(space.dense, shape), _engine_calls(space.dense, shape)
    table = new_table(
        f"{this_machine('engine')}, {_THREADS} threads; times faster than the dense network in ONNX Runtime",
        "method",
        "MACs, params, KL, ONNX b1, b16, engine b1, b16, efficiency b1, b16, engine / ONNX b1, b16",
    )
    ratios = [_faster(dense_onnx[batch], dense_engine[batch]) for batch in _BATCHES]
    dense = [f"{value:.2f}" for value in ratios]
    table.add_row("dense", "1.0x", "1.0x", "", "1.00", "1.00", *dense, *dense, *dense)
    for ratio in map(float, budgets.split(",")):
        table.add_section()
        for name in names.split(","):
            plan = space.plan(name, hscc.Budget(macs=ratio))
            small = hscc.apply(space.dense, plan).eval()
            onnx, engine = _onnx_calls(small, shape), _engine_calls(small, shape)
            in_onnx = [_faster(dense_onnx[batch], onnx[batch]) for batch in _BATCHES]
            in_engine = [_faster(dense_onnx[batch], engine[batch]) for batch in _BATCHES]
            between = [_faster(onnx[batch], engine[batch]) for batch in _BATCHES]
            saved = plan.dense_macs / plan.macs
            mean, error = space.divergence(small)
            table.add_row(
                method_label(name),
                f"{saved:.1f}x",
                f"{plan.dense_params / plan.params:.1f}x",
                f"{mean:.4f} ± {error:.4f}",
                *(f"{value:.2f}" for value in (*in_onnx, *in_engine)),
                *(f"{value / saved:.2f}" for value in in_engine),
                *(f"{value:.2f}" for value in between),
            )
            Console(stderr=True).print(f"{name} at {ratio:g}x: done")
    Console(width=150).print(table)


@app.command()
def regions() -> None:
    """Time of one region, 2 x 2 and 4 x 4 regions with the same ranks, in AlexNet's layers, random weights."""
    table = new_table(
        f"{this_machine('engine')}, {_THREADS} threads; time relative to one region of the same ranks",
        "layer, ranks",
        "2x2 b1, b16, 4x4 b1, b16, dense / one region b1, b16",
    )
    for layer, directions, rank in _alexnet_layers():
        torch.manual_seed(0)
        shape = (layer.inputs, *layer.input_grid)
        calls = [_engine_calls(_regional(layer, directions, rank, side), shape) for side in (1, 2, 4)]
        whole = hscc.structures.dense.DENSE.module(layer).eval()
        dense = _engine_calls(nn.Sequential(whole, nn.ReLU()), shape)
        table.add_row(
            f"{layer.inputs} -> {layer.outputs}, {layer.kernel[0]}x{layer.kernel[1]} at {layer.grid[0]}",
            f"{directions}, {rank}",
            *(f"{1 / _faster(calls[0][batch], other[batch]):.3f}" for other in calls[1:] for batch in _BATCHES),
            *(f"{_faster(dense[batch], calls[0][batch]):.2f}" for batch in _BATCHES),
        )
    Console(width=130).print(table)


def _alexnet_layers() -> list[tuple[Layer, int, int]]:
    """Convolutions 2 to 5 of AlexNet with the directions and ranks of a network with 6 times fewer MACs."""

    def layer(inputs: int, outputs: int, kernel: int, side: int) -> Layer:
        edge = kernel // 2
        return Layer(
            "layer", "conv", inputs, outputs, (kernel, kernel), (1, 1), (1, 1), (edge,) * 4, "constant",
            (side, side), (side, side), True,
        )  # fmt: skip

    return [
        (layer(64, 192, 5, 27), 16, 64),
        (layer(192, 384, 3, 13), 48, 96),
        (layer(384, 256, 3, 13), 96, 96),
        (layer(256, 256, 3, 13), 64, 96),
    ]


def _regional(layer: Layer, directions: int, rank: int, side: int) -> nn.Module:
    block = Block(tuple(range(directions)), rank)
    tiles = [((row, row + 1, column, column + 1),) for row in range(side) for column in range(side)]
    structure = LowRank(side, tuple(Region(tile, (block,)) for tile in tiles), projection=directions)
    return nn.Sequential(structure.module(layer), nn.ReLU()).eval()


@app.command()
def equal_time(
    budgets: Budgets = "6,10",
    reference: Annotated[str, typer.Option(help="Method whose time the others are given.")] = "tucker_adaptive",
    names: Methods = "hscc,global_svd_adaptive",
) -> None:
    """Divergence of other methods in the time that a reference method takes in the engine at a budget of MACs."""
    space = Workspace(read_params().data.protocol)
    shape = space.calibration.input_shape
    table = new_table(
        f"{this_machine('engine')}, {_THREADS} threads, engine; before fine-tuning",
        "batch, method",
        "MACs, time / reference, KL, KL / reference",
    )
    for batch in _BATCHES:
        latency = hscc.new_table(threads=_THREADS, batches=(batch,))
        for ratio in map(float, budgets.split(",")):
            table.add_section()
            plan = space.plan(reference, hscc.Budget(macs=ratio))
            base = hscc.apply(space.dense, plan).eval()
            base_call = _engine_calls(base, shape)[batch]
            base_mean, base_error = space.divergence(base)
            saved = plan.dense_macs / plan.macs
            table.add_row(
                f"{batch}",
                method_label(reference),
                f"{saved:.1f}x",
                "1.00",
                f"{base_mean:.4f} ± {base_error:.4f}",
                "1.00",
            )
            dense_call = _engine_calls(space.dense, shape)[batch]
            for name in names.split(","):
                wanted = _faster(dense_call, base_call)
                for _ in range(_ROUNDS):
                    budget = hscc.Budget(latency=wanted)
                    made = hscc.plan(space.dense, space.calibration, hscc.METHODS[name], budget, 0, latency=latency)
                    small = hscc.apply(space.dense, made).eval()
                    slower = _faster(_engine_calls(small, shape)[batch], base_call)
                    if abs(slower - 1) < _EQUAL:
                        break
                    wanted *= slower
                mean, error = space.divergence(small)
                table.add_row(
                    f"{batch}",
                    method_label(name),
                    f"{made.dense_macs / made.macs:.1f}x",
                    f"{slower:.2f}",
                    f"{mean:.4f} ± {error:.4f}",
                    f"{mean / base_mean:.2f}",
                )
                Console(stderr=True).print(f"batch {batch}, {ratio:g}x, {name}: done")
    Console(width=110).print(table)


if __name__ == "__main__":
    app()
