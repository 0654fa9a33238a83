"""How the time and memory of calibration and planning grow with depth, width, images and outputs.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --rows resnet18,resnet50

Each row is a process of its own: a small network in which one size grows, then networks as users bring them, with
random weights and images. Plans are of `HSCC()` at 3 times fewer MACs; the second budget is 6 on the same calibration,
where the network can reach it. CPU seconds are of all threads together; ratios are to the first row of a group.
"""

from __future__ import annotations

import resource
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import nn
from torch.nn import functional as F

import hscc
from benchmarks.common import new_table, random_network
from hscc.budgets.latency_table import this_machine
from hscc.errors import BudgetError
from hscc.networks.backbones import build, initialise
from hscc.timing.runtimes import ONNXRUNTIME


@dataclass(frozen=True)
class Row:
    """What is measured.

    Attributes
    ----------
    group : str
        Rows of one group differ in one size.
    make : callable
        Network with random weights.
    shape : tuple of int
        Of one image.
    images, outputs : int
        Calibration images; outputs of the network, for the table.
    """

    group: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    images: int
    outputs: int


@dataclass(frozen=True)
class Small:
    """A network of 3 x 3 convolutions."""

    layers: int = 4
    width: int = 64
    outputs: int = 4

    def __call__(self) -> nn.Module:
        """Build it."""
        parts: list[nn.Module] = [nn.Conv2d(3, self.width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        for _ in range(self.layers - 1):
            parts += [nn.Conv2d(self.width, self.width, 3, padding=1), nn.ReLU()]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self.width, self.outputs)]
        return nn.Sequential(*parts, *head)


@dataclass(frozen=True)
class Torchvision:
    """A network of torchvision with its thousand classes."""

    name: str

    def __call__(self) -> nn.Module:
        """Build it."""
        build("resnet18", 4)  # makes torchvision work with any build of torch
        from torchvision import models

        model: nn.Module = getattr(models, self.name)(weights=None)
        return model


class UNet(nn.Module):
    """A 3-D U-Net of 1 M parameters: three levels, one class."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(_twice(inputs, outputs) for inputs, outputs in ((1, 16), (16, 32), (32, 64)))
        self.bottom = _twice(64, 128)
        self.up = nn.ModuleList(nn.ConvTranspose3d(2 * size, size, 2, 2) for size in (64, 32, 16))
        self.wide = nn.ModuleList(_twice(2 * size, size) for size in (64, 32, 16))
        self.head = nn.Conv3d(16, 1, 1)

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Map (N, 1, D, H, W) to logits of the same size."""
        kept = []
        for stage in self.down:
            kept.append(volume := stage(volume))
            volume = F.max_pool3d(volume, 2)
        volume = self.bottom(volume)
        for up, wide, skip in zip(self.up, self.wide, reversed(kept), strict=True):
            volume = wide(torch.cat((up(volume), skip), dim=1))
        found: torch.Tensor = self.head(volume)
        return found


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.Conv3d(outputs, outputs, 3, padding=1), nn.ReLU()
    )  # fmt: skip


@dataclass(frozen=True)
class Registered:
    """A backbone of this library."""

    name: str

    def __call__(self) -> nn.Module:
        """Build it."""
        return random_network(self.name)


_PICTURE = (3, 64, 64)
ROWS = {
    **{f"{number} images": Row("images", Small(), _PICTURE, number, 4) for number in (32, 64, 128)},
    **{f"{layers} layers": Row("depth", Small(layers=layers), _PICTURE, 32, 4) for layers in (4, 8, 16)},
    **{f"{width} channels": Row("width", Small(width=width), _PICTURE, 32, 4) for width in (32, 64, 128)},
    **{f"{number} outputs": Row("outputs", Small(outputs=number), _PICTURE, 32, number) for number in (4, 100, 1000)},
    "squeezenet1_1": Row("squeezenet1_1", Torchvision("squeezenet1_1"), (3, 96, 96), 48, 1000),
    "alexnet": Row("alexnet", Registered("alexnet"), (3, 224, 224), 256, 4),
    "resnet18": Row("resnet18", Torchvision("resnet18"), (3, 224, 224), 256, 1000),
    "resnet50": Row("resnet50", Torchvision("resnet50"), (3, 224, 224), 128, 1000),
    "unet3d": Row("unet3d", UNet, (1, 64, 64, 64), 48, 1),
}


@dataclass(frozen=True)
class Measured:
    """Seconds by the clock and of the CPU, and the memory of the process in GiB."""

    calibration: tuple[float, float]
    plan: tuple[float, float]
    again: tuple[float, float] | None
    memory: float


def main(
    rows: Annotated[str, typer.Option(help="Names of rows, separated by commas; empty for all.")] = "",
    threads: Annotated[int, typer.Option(help="Threads of torch.")] = torch.get_num_threads(),
) -> None:
    """Print the table."""
    unknown = sorted(set(filter(None, rows.split(","))) - set(ROWS))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: rows are {', '.join(ROWS)}.")
    table = new_table(
        f"HSCC at 3x fewer MACs, {threads} threads; {this_machine(ONNXRUNTIME)}",
        "row",
        "image, images, outputs, calibrate s (CPU s), ratio, plan s (CPU s), ratio, second budget s (CPU s), peak GiB",
    )
    first: dict[str, Measured] = {}
    for name in rows.split(",") if rows else ROWS:
        row = ROWS[name]
        with get_context("spawn").Pool(1) as pool:
            found = pool.apply(measure, (name, threads))
        start = first.setdefault(row.group, found)
        table.add_row(
            name, " x ".join(map(str, row.shape)), str(row.images), str(row.outputs),
            _text(found.calibration), f"{found.calibration[1] / start.calibration[1]:.1f}",
            _text(found.plan), f"{found.plan[1] / start.plan[1]:.1f}", _text(found.again), f"{found.memory:.1f}",
        )  # fmt: skip
        Console(stderr=True).print(f"{name}: done")
    Console(width=170).print(table)


def measure(name: str, threads: int) -> Measured:
    """Calibrate and plan one row."""
    torch.set_num_threads(threads)
    row = ROWS[name]
    torch.manual_seed(0)
    model = row.make().eval()
    initialise(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that images are few
        start = _now()
        calibration = hscc.calibrate(model, _batches(row))
        calibrated = _now()
        hscc.plan(model, calibration, hscc.HSCC(), hscc.Budget(macs=3))
        planned = _now()
        try:
            hscc.plan(model, calibration, hscc.HSCC(), hscc.Budget(macs=6))
            again = _between(planned, _now())
        except BudgetError:
            again = None
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Measured(_between(start, calibrated), _between(calibrated, planned), again, memory)


def _batches(row: Row) -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mode = "bilinear" if len(row.shape) == 3 else "trilinear"
    for _ in range(row.images // 8):
        coarse = torch.randn(8, row.shape[0], *(size // 4 for size in row.shape[1:]), generator=generator)
        yield F.interpolate(coarse, size=row.shape[1:], mode=mode)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _between(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    return end[0] - start[0], end[1] - start[1]


def _text(times: tuple[float, float] | None) -> str:
    return "not reached" if times is None else f"{times[0]:.1f} ({times[1]:.1f})"


if __name__ == "__main__":
    typer.run(main)
