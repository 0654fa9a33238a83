"""How calibration and planning grow with images, cells and width, and what a second budget costs.

    python -m benchmarks.growth                # a small network, a minute or two
    python -m benchmarks.growth --backbone alexnet --size 224 --images 512   # the figures of docs/method.md

Every line is measured in one process on random images; read the ratios, machines differ.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Annotated, TypeVar

import torch
import typer
from torch import nn

import hscc
from hscc.networks.backbones import build, initialise

_T = TypeVar("_T")


def main(
    backbone: Annotated[str, typer.Option(help="Name in the registry of backbones; empty for a small network.")] = "",
    size: Annotated[int, typer.Option(help="Pixels a side.")] = 64,
    images: Annotated[int, typer.Option(help="Calibration images.")] = 256,
    batch: Annotated[int, typer.Option(help="Images a batch.")] = 32,
) -> None:
    """Print the measurements."""
    if backbone:
        torch.manual_seed(0)
        model = build(backbone, 4)
        initialise(model)
        _measure(backbone, model.eval(), size, images, batch, 4)
        return
    print("images")
    for count in (images // 4, images // 2, images):
        _measure(f"{count:>5} images", _network(32), size, count, batch, 4)
    print("cells")
    for cells in (1, 2, 4, 8):
        _measure(f"{cells:>2} cells a side", _network(32), size, images, batch, cells)
    print("width")
    for width in (16, 32, 64):
        _measure(f"{width:>3} channels", _network(width), size, images, batch, 4)


def _measure(name: str, model: nn.Module, size: int, images: int, batch: int, cells: int) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = (torch.randn(batch, 3, size, size, generator=generator) for _ in range(max(1, images // batch)))
    calibration, calibrating = _timed(lambda: hscc.calibrate(model, batches, cells))
    _, first = _timed(lambda: hscc.plan(model, calibration, hscc.HSCC(), hscc.Budget(macs=6)))
    _, second = _timed(lambda: hscc.plan(model, calibration, hscc.HSCC(), hscc.Budget(macs=3)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"  {name:<16} calibrate {calibrating:6.1f} s   first plan {first:5.1f} s   second budget {second:5.2f} s   "
        f"peak memory of the process {peak:.2f} GiB",
        flush=True,
    )


def _timed(work: Callable[[], _T]) -> tuple[_T, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def _network(width: int) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64 * width, 4),
    )  # fmt: skip
    initialise(model)
    return model.eval()


if __name__ == "__main__":
    typer.run(main)
