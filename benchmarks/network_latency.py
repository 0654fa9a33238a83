"""How much of the saved MACs shows as time in ONNX Runtime, for registered backbones.

    python -m benchmarks.network_latency
    python -m benchmarks.network_latency --backbones resnet18 --size 112 --no-latency

Weights are random, so it shows the time of the structures, not accuracy; ranks are spread more evenly than in a trained
network. Nothing else should run meanwhile.
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import nn

import hscc
from benchmarks.common import new_table, random_network
from hscc.export.graph.simplify import simplify
from hscc.export.to_onnx import to_onnx
from hscc.timing.alternation import Call, time_pair
from hscc.timing.sessions import open_graph

_BATCHES, _THREADS = (1, 16), 2
_PAIRS, _SECONDS = 21, 3.0


def main(
    backbones: Annotated[str, typer.Option(help="Names, separated by commas.")] = "vgg16,resnet18",
    macs: Annotated[float, typer.Option(help="Times fewer MACs.")] = 4.0,
    efficiency: Annotated[float, typer.Option(help="Share of that reduction required as speed-up at batch 1.")] = 0.7,
    size: Annotated[int, typer.Option(help="Image side in pixels.")] = 224,
    images: Annotated[int, typer.Option(help="Calibration images.")] = 8,
    latency: Annotated[bool, typer.Option(help="Budget latency as well as MACs.")] = True,
) -> None:
    """Print the table."""
    warnings.filterwarnings("ignore", message=".*calibration images are few")
    table = new_table(
        f"{size} x {size} pixels, random weights, ONNX Runtime, {_THREADS} threads",
        "backbone, method",
        "MACs, params, speed b1, speed b16, efficiency b1, b16, seconds",
    )
    budget = hscc.Budget(macs=macs, latency=macs * efficiency if latency else None)
    for name in backbones.split(","):
        model = random_network(name)
        calibration = hscc.calibrate(model, torch.randn(images, 3, size, size).split(4), cells=1)
        dense = _calls(model, size)
        for method in (hscc.HSCC(regions=1, clusters=1), hscc.GlobalSVD(adaptive=True)):
            started = time.perf_counter()
            plan = hscc.plan(model, calibration, method, budget, latency=hscc.new_table(_THREADS, batches=(1,)))
            small = hscc.apply(model, plan)
            seconds = time.perf_counter() - started
            pairs = zip(dense, _calls(small, size), strict=True)
            faster = [time_pair(old, new, _PAIRS, _SECONDS).speedup.median for old, new in pairs]
            saved = plan.dense_macs / plan.macs
            table.add_row(
                name,
                plan.method,
                f"{saved:.2f}x",
                f"{plan.dense_params / plan.params:.1f}x",
                *(f"{value:.2f}x" for value in faster),
                *(f"{value / saved:.2f}" for value in faster),
                f"{seconds:.0f}",
            )
            Console(stderr=True).print(f"{name}, {plan.method}: done")
    Console(width=130).print(table)


def _calls(model: nn.Module, size: int) -> list[Call]:
    session = open_graph(simplify(to_onnx(model, (3, size, size))), _THREADS)
    name = session.get_inputs()[0].name
    return [partial(session.run, None, {name: torch.randn(batch, 3, size, size).numpy()}) for batch in _BATCHES]


if __name__ == "__main__":
    typer.run(main)
