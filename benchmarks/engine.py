"""What the engine makes of a compressed network's MACs, against ONNX Runtime and at equal time against other methods.

    python -m benchmarks.engine methods --budgets 4,6,10
    python -m benchmarks.engine regions
    python -m benchmarks.engine equal-time --budgets 6,10
    python -m benchmarks.engine cells hscc-macs10-seed0,tucker_adaptive-macs10-seed0

`methods`, `equal-time` and `cells` use the outputs of the stages train and calibrate (`cells` of compress too) and the
validation split of the workspace they run in; the test split stays unread. `regions` needs nothing. Nothing else should
run meanwhile; all ratios are medians of calls in turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
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
from hscc.networks.storage import ModelCard, load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.loading import balanced_sample, read_splits
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.names import method_label
from hscc.pipeline.params import read_params
from hscc.structures.base import SIMD_WIDTH
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.timing.alternation import Call, time_pair
from hscc.timing.runtimes import ENGINE, ONNXRUNTIME, find_runtime
from hscc.training.agreement import split_logits
from hscc.training.images import Split, batches

app = typer.Typer(add_completion=False)
_BATCHES, _THREADS = (1, 16), 2
_PAIRS, _SECONDS = 41, 4.0
_ROUNDS = 3  # of planning, each corrected by the time that was measured
_EQUAL = 0.03  # relative difference of two times that counts as none

Budgets = Annotated[str, typer.Option(help="Times fewer MACs, separated by commas.")]
Methods = Annotated[str, typer.Option(help="Names in hscc.METHODS, separated by commas.")]


@dataclass
class Workspace:
    """The dense network of a workspace, its moments, and its validation images with the dense network's logits."""

    protocol: str

    @cached_property
    def dense(self) -> nn.Module:
        """The trained network."""
        return self._trained[0].eval()

    @cached_property
    def calibration(self) -> hscc.Calibration:
        """Its moments."""
        return load_calibration(Path(layout.MOMENTS))

    @cached_property
    def validation(self) -> Split:
        """The validation split."""
        return self._splits[1]

    @cached_property
    def training_split(self) -> Split:
        """The training split."""
        return self._splits[0]

    @cached_property
    def _trained(self) -> tuple[nn.Module, ModelCard]:
        return load_dense(Path(layout.baseline(self.protocol)) / "model.safetensors")

    @cached_property
    def _splits(self) -> tuple[Split, Split]:
        return read_splits(read_manifest(Path(layout.MANIFEST)), self._trained[1], self.protocol, Path("."))

    @cached_property
    def targets(self) -> torch.Tensor:
        """Logits of the dense network on the validation split."""
        return split_logits(self.dense, self.validation)

    def batches(self) -> Iterator[np.ndarray]:
        """Validation images as the network takes them, 32 at a time."""
        return (images.numpy() for images, _ in batches(self.validation))

    def calibration_images(self) -> list[torch.Tensor]:
        """Training images to quantise with, as many as the stage quantise takes."""
        params = read_params().quantise
        return list(self.training_images(params.images, params.seed).split(32))

    def training_images(self, count: int, seed: int) -> torch.Tensor:
        """Images of the training split, balanced over the classes."""
        train = self.training_split
        return train.batch(balanced_sample(train.labels, count, seed))[0]

    def divergence(self, network: nn.Module) -> tuple[float, float]:
        """KL divergence from the dense network on the validation split, and its standard error."""
        logits = split_logits(network, self.validation)
        terms = F.kl_div(logits.log_softmax(1), self.targets.log_softmax(1), log_target=True, reduction="none").sum(1)
        return float(terms.mean()), float(terms.std() / len(terms) ** 0.5)

    def plan(self, name: str, macs: float, multiple: int | None = None) -> hscc.Plan:
        """Plan at a budget of MACs with seed 0, with ranks in multiples of a number instead of the method's."""
        method = hscc.METHODS[name]
        if multiple:
            method = replace(method, rank_multiple=multiple)
        return hscc.plan(self.dense, self.calibration, method, hscc.Budget(macs=macs), 0)


def _calls(runtime: str, network: nn.Module, shape: tuple[int, ...]) -> dict[int, Call]:
    """One run of a network in a runtime at each batch size."""
    session = find_runtime(runtime).open_module(network, shape, _THREADS)
    return {batch: session.bind(batch) for batch in _BATCHES}


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
    dense_onnx, dense_engine = _calls(ONNXRUNTIME, space.dense, shape), _calls(ENGINE, space.dense, shape)
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
            plan = space.plan(name, ratio)
            small = hscc.apply(space.dense, plan).eval()
            onnx, engine = _calls(ONNXRUNTIME, small, shape), _calls(ENGINE, small, shape)
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
        calls = [_calls(ENGINE, _regional(layer, directions, rank, side), shape) for side in (1, 2, 4)]
        whole = hscc.structures.dense.DENSE.module(layer).eval()
        dense = _calls(ENGINE, nn.Sequential(whole, nn.ReLU()), shape)
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
def cells(names: Annotated[str, typer.Argument(help="Cells that were compressed, separated by commas.")]) -> None:
    """Size, time and fidelity of fine-tuned cells in the engine, in float32 and in int8, on the validation split."""
    space = Workspace(read_params().data.protocol)
    shape = space.calibration.input_shape
    dense_calls = _calls(ONNXRUNTIME, space.dense, shape)
    labels = torch.from_numpy(space.validation.labels)
    dense_right = (space.targets.argmax(1) == labels).float()
    images = space.calibration_images()
    table = new_table(
        f"{this_machine('engine')}, {_THREADS} threads; times faster than the dense network in ONNX Runtime; "
        f"validation accuracy of dense {100 * float(dense_right.mean()):.1f} %",
        "cell, precision",
        "MACs, MB, KL, accuracy - dense, b1, b16, layers in float32",
    )
    for name in names.split(","):
        small = hscc.load(Path(layout.cell(name))).eval()
        saved = small.hscc_plan.dense_macs / small.hscc_plan.macs
        for precision in ("float32", "int8"):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "network.hscc"
                chosen = {"precision": "int8", "images": images} if precision == "int8" else {}
                made = hscc.export_engine(small, path, input_shape=shape, **chosen)
                session = find_runtime(ENGINE).open_file(path, _THREADS)
            logits = torch.cat([torch.from_numpy(session(batch)) for batch in space.batches()])
            terms = F.kl_div(logits.log_softmax(1), space.targets.log_softmax(1), log_target=True, reduction="none")
            gained = (logits.argmax(1) == labels).float() - dense_right
            error = 196 * float(gained.std()) / len(gained) ** 0.5
            table.add_row(
                name,
                precision,
                f"{saved:.1f}x",
                f"{made.size / 1e6:.2f}",
                f"{float(terms.sum(1).mean()):.4f}",
                f"{100 * float(gained.mean()):+.1f} ± {error:.1f}",
                *(f"{_faster(dense_calls[batch], session.bind(batch)):.1f}x" for batch in _BATCHES),
                f"{len(made.kept_float)}",
            )
        Console(stderr=True).print(f"{name}: done")
    Console(width=130).print(table)


@app.command()
def equal_time(
    budgets: Budgets = "6,10",
    reference: Annotated[str, typer.Option(help="Method whose time the others are given.")] = "tucker_adaptive",
    names: Methods = "hscc",
) -> None:
    """Divergence of other methods in the time that a reference method takes in the engine at a budget of MACs.

    Ranks are multiples of the SIMD width, since others cost the time of the next multiple.
    """
    space = Workspace(read_params().data.protocol)
    shape = space.calibration.input_shape
    table = new_table(
        f"{this_machine('engine')}, {_THREADS} threads, engine; before fine-tuning",
        "batch, method",
        "MACs, time / reference, KL, KL / reference",
    )
    for ratio in map(float, budgets.split(",")):
        plan = space.plan(reference, ratio, SIMD_WIDTH)
        base = hscc.apply(space.dense, plan).eval()
        base_calls = _calls(ENGINE, base, shape)
        base_mean, base_error = space.divergence(base)
        for batch in _BATCHES:
            table.add_section()
            saved, mean = f"{plan.dense_macs / plan.macs:.1f}x", f"{base_mean:.4f} ± {base_error:.4f}"
            table.add_row(f"{batch}", method_label(reference), saved, "1.00", mean, "1.00")
            for name in names.split(","):
                asked = ratio
                for _ in range(_ROUNDS):
                    made = space.plan(name, asked, SIMD_WIDTH)
                    small = hscc.apply(space.dense, made).eval()
                    slower = 1 / _faster(base_calls[batch], _calls(ENGINE, small, shape)[batch])
                    if abs(slower - 1) < _EQUAL:
                        break
                    asked *= slower
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
