"""How calibration and planning scale with images, cells, width and outputs, and what a second budget costs.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --backbone alexnet --size 224 --images 512
    python -m benchmarks.scaling --backbone resnet18 --size 224 --images 256 --outputs 1000

All lines are measured in one process on random images: compare them with each other, not with another machine's.
"""

from __future__ import annotations

import resource
import time
from itertools import pairwise
from typing import Annotated

import torch
import typer
from torch import nn

import hscc
from benchmarks.common import CLASSES, random_network
from hscc.networks.backbones import initialise


def main(
    backbone: Annotated[str, typer.Option(help="Registered name; empty for a small network at several settings.")] = "",
    size: Annotated[int, typer.Option(help="Image side in pixels.")] = 64,
    images: Annotated[int, typer.Option(help="Calibration images.")] = 256,
    batch: Annotated[int, typer.Option(help="Images per batch.")] = 32,
    outputs: Annotated[int, typer.Option(help="Classes of the backbone.")] = CLASSES,
) -> None:
    """Print the measurements."""
    if backbone:
        _measure(backbone, random_network(backbone, outputs), size, images, batch, cells=4)
        return
    for count in (images // 4, images // 2, images):
        _measure(f"{count} images", _small_network(32), size, count, batch, cells=4)
    for cells in (1, 2, 4, 8):
        _measure(f"{cells} x {cells} cells", _small_network(32), size, images, batch, cells)
    for width in (16, 32, 64):
        _measure(f"{width} channels", _small_network(width), size, images, batch, cells=4)
    for count in (4, 100, 1000):
        _measure(f"{count} outputs", _small_network(32, count), size, images, batch, cells=4)


def _measure(name: str, model: nn.Module, size: int, images: int, batch: int, cells: int) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = (torch.randn(batch, 3, size, size, generator=generator) for _ in range(max(1, images // batch)))
    times = [(time.perf_counter(), time.process_time())]
    calibration = hscc.calibrate(model, batches, cells)
    times.append((time.perf_counter(), time.process_time()))
    for macs in (6, 3):
        hscc.plan(model, calibration, hscc.HSCC(), hscc.Budget(macs=macs))
        times.append((time.perf_counter(), time.process_time()))
    calibrating, first, second = (
        f"{end[0] - start[0]:6.1f} s ({end[1] - start[1]:.1f} CPU s)" for start, end in pairwise(times)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{name:<14} calibrate {calibrating}   first plan {first}   second budget {second}   "
        f"peak memory of the process {peak:.2f} GiB",
        flush=True,
    )


def _small_network(width: int, outputs: int = CLASSES) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * width, outputs),
    )  # fmt: skip
    initialise(model)
    return model.eval()


if __name__ == "__main__":
    typer.run(main)
