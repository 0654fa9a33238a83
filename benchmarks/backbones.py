"""How the registered backbones are compressed: layers factored, left dense and folded, cost and time.

python -m benchmarks.backbones

Weights and images are random, so it shows what is compressed, not what that does to accuracy.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from typing import Annotated

import torch
import typer
from rich.console import Console

import hscc
from benchmarks.common import new_table, random_network
from hscc.networks.backbones import BACKBONES
from hscc.networks.folding import foldable
from hscc.structures.dense import DENSE


def main(
    budget: Annotated[float, typer.Option(help="Times fewer MACs.")] = 3.0,
    size: Annotated[int, typer.Option(help="Image side in pixels.")] = 64,
    images: Annotated[int, typer.Option(help="Calibration images.")] = 16,
    only: Annotated[str, typer.Option(help="Backbones, separated by commas; all if empty.")] = "",
) -> None:
    """Print the table."""
    warnings.filterwarnings("ignore", message=".*calibration images are few")
    table = new_table(
        f"HSCC at {budget:g}x fewer MACs, {size} x {size} pixels",
        "backbone",
        "MMACs, params M, factored, left dense, BatchNorms folded, seconds",
    )
    for name in only.split(",") if only else BACKBONES:
        model = random_network(name)
        started = time.perf_counter()
        calibration = hscc.calibrate(model, [torch.randn(images, 3, size, size)], cells=2)
        plan = hscc.plan(model, calibration, hscc.HSCC(regions=((1, 1), (2, 1)), clusters=(1, 4)), hscc.Budget(budget))
        cost = hscc.cost(hscc.apply(model, plan), (1, 3, size, size))
        factored = sum(entry.structure != DENSE for entry in plan.layers)
        reasons = Counter(reason.split(":")[-1].strip() for reason in plan.left_dense.values())
        reasons["nothing saved enough"] = len(plan.layers) - factored
        table.add_row(
            name,
            f"{plan.dense_macs / 1e6:.1f} > {cost.macs / 1e6:.1f}",
            f"{plan.dense_params / 1e6:.1f} > {cost.params / 1e6:.1f}",
            str(factored),
            "; ".join(f"{count} {reason}" for reason, count in reasons.items() if count),
            str(len(foldable(model))),
            f"{time.perf_counter() - started:.0f}",
        )
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
