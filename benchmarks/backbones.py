"""What becomes of the backbones of the registry: layers factored, left dense and folded, cost and time.

    python -m benchmarks.backbones          # random weights and images of 64 pixels, a minute or two

It shows that they are compressed whole; what that does to a trained network is the pipeline's business.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

import hscc
from hscc.networks.backbones import BACKBONES, build, initialise
from hscc.networks.folding import foldable


def main(
    budget: Annotated[float, typer.Option(help="Times fewer MACs.")] = 3.0,
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    images: Annotated[int, typer.Option(help="Calibration images.")] = 16,
) -> None:
    """Print the table."""
    warnings.filterwarnings("ignore", message=".*calibration images are few")
    table = Table(title=f"HSCC at {budget:g}x fewer MACs, {size} x {size} pixels")
    for heading in ("backbone", "MMACs", "params M", "factored", "left dense", "BatchNorms folded", "seconds"):
        table.add_column(heading, justify="left" if heading in ("backbone", "left dense") else "right")
    for name in BACKBONES:
        torch.manual_seed(0)
        model = build(name, 4).eval()
        initialise(model)
        started = time.perf_counter()
        calibration = hscc.calibrate(model, [torch.randn(images, 3, size, size)], cells=2)
        made = hscc.plan(model, calibration, hscc.HSCC(regions=((1, 1), (2, 1)), clusters=(1, 4)), hscc.Budget(budget))
        report = hscc.cost(hscc.apply(model, made), (1, 3, size, size))
        factored = sum(entry.structure.kind != "dense" for entry in made.layers)
        reasons = Counter(reason.split(":")[-1].strip() for reason in made.left_dense.values())
        reasons["nothing saved enough"] = len(made.layers) - factored
        table.add_row(
            name,
            f"{made.dense_macs / 1e6:.1f} > {report.macs / 1e6:.1f}",
            f"{made.dense_params / 1e6:.1f} > {report.params / 1e6:.1f}",
            str(factored),
            "; ".join(f"{count} {reason}" for reason, count in reasons.items() if count),
            str(len(foldable(model))),
            f"{time.perf_counter() - started:.0f}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
