"""How much of the saved MACs shows on the clock, for backbones of the registry, in ONNX Runtime.

    python -m benchmarks.on_the_clock                               # VGG-16 and ResNet-18 at 224 pixels, 10 minutes
    python -m benchmarks.on_the_clock --backbones resnet18 --size 112 --no-clock

Weights are random (ranks are then spread more evenly than in a trained network), so it says what the structures cost in
time, not in accuracy. Keep the machine quiet meanwhile.
"""

from __future__ import annotations

import time
import warnings
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

import hscc
from hscc.budgets.refinement import speedups, start
from hscc.networks.backbones import build, initialise


def main(
    backbones: Annotated[str, typer.Option(help="Names, with commas.")] = "vgg16,resnet18",
    macs: Annotated[float, typer.Option(help="Times fewer MACs.")] = 4.0,
    efficiency: Annotated[float, typer.Option(help="Share of them asked for on the clock, at batch 1.")] = 0.7,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 224,
    images: Annotated[int, typer.Option(help="Calibration images.")] = 8,
    clock: Annotated[bool, typer.Option(help="Budget the time as well as the MACs.")] = True,
) -> None:
    """Print the table."""
    warnings.filterwarnings("ignore", message=".*calibration images are few")
    table = Table(title=f"{size} x {size} pixels, random weights, ONNX Runtime, 2 threads")
    for heading in ("backbone", "method", "MACs", "params", "speed b1", "speed b16", "efficiency b1", "b16", "seconds"):
        table.add_column(heading, justify="left" if heading in ("backbone", "method") else "right")
    for name in backbones.split(","):
        torch.manual_seed(0)
        model = build(name, 4).eval()
        initialise(model)
        calibration = hscc.calibrate(model, torch.randn(images, 3, size, size).split(4), cells=1)
        timing = hscc.new_table()
        watch = start(model, calibration.input_shape, timing)
        asked = hscc.Budget(macs=macs, latency=macs * efficiency) if clock else hscc.Budget(macs=macs)
        for method in (hscc.HSCC(regions=1, clusters=1), hscc.GlobalSVD(adaptive=True)):
            started = time.perf_counter()
            made = hscc.plan(model, calibration, method, asked, latency=hscc.new_table(batches=(1,)))
            small = hscc.apply(model, made)
            seconds = time.perf_counter() - started
            faster = speedups(watch, small, calibration.input_shape, timing)
            saved = made.dense_macs / made.macs
            table.add_row(
                name,
                made.method,
                f"{saved:.2f}x",
                f"{made.dense_params / made.params:.1f}x",
                *(f"{faster[batch]:.2f}x" for batch in (1, 16)),
                *(f"{faster[batch] / saved:.2f}" for batch in (1, 16)),
                f"{seconds:.0f}",
            )
            Console(stderr=True).print(f"{name}, {made.method}: done")
    Console(width=130).print(table)


if __name__ == "__main__":
    typer.run(main)
