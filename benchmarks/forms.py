"""Ways to execute regions and clusters of one layer in ONNX Runtime, side by side.

    python -m benchmarks.forms --layer features.3 --batch 16

Efficiency is the speed-up over dense divided by how many times fewer multiply-accumulates there are: 1 means that what
was saved on paper was saved on the clock. All ways are timed in turn within one run, and compared by the first decile
of their calls: what interrupts a call on a machine that others use too only ever adds. Where no call is left alone,
--cpu counts what one thread computes and not what it waits.
"""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.executions import Execution, executions
from benchmarks.timing import UNDISTURBED, measure, open_session
from hscc.calibration.layers import find_layers
from hscc.networks.backbones import build


def main(
    backbone: Annotated[str, typer.Option(help="Name in the registry of backbones.")] = "alexnet",
    layer: Annotated[str, typer.Option(help="Module path of a convolution.")] = "features.3",
    size: Annotated[int, typer.Option(help="Pixels a side of the network's input.")] = 224,
    batch: Annotated[int, typer.Option(help="Images a call.")] = 16,
    ratio: Annotated[float, typer.Option(help="Times fewer multiply-accumulates, at least.")] = 5.0,
    threads: Annotated[int, typer.Option(help="Threads inside an operator.")] = 2,
    cpu: Annotated[bool, typer.Option("--cpu", help="Count one thread's own time, not the wall clock's.")] = False,
    seconds: Annotated[float, typer.Option(help="How long to measure.")] = 40.0,
    only: Annotated[str, typer.Option(help="Only ways whose names contain this, beside dense.")] = "",
) -> None:
    """Print the table."""
    layers, _ = find_layers(build(backbone, 4), (3, size, size))
    chosen = {entry.name: entry for entry in layers if entry.kind == "conv"}.get(layer)
    if chosen is None:
        names = ", ".join(entry.name for entry in layers if entry.kind == "conv")
        raise typer.BadParameter(f"{backbone} has no convolution {layer}; choose one of {names}.")
    ways = [way for way in executions(chosen, ratio) if only in way.name or way.name == "dense"]
    threads, clock = (1, time.thread_time_ns) if cpu else (threads, time.perf_counter_ns)
    sessions = [open_session(way.model(chosen), threads) for way in ways]
    images = np.random.default_rng(0).standard_normal((batch, chosen.inputs, *chosen.input_grid), dtype=np.float32)
    times = measure(sessions, images, seconds, clock)
    counted = "CPU time of one thread" if cpu else f"{threads} threads"
    title = f"{backbone} {layer}, batch {batch}, {counted}, {times.shape[1]} calls each"
    Console(width=120).print(_table(title, ways, times))


def _table(title: str, ways: list[Execution], times: npt.NDArray[np.float64]) -> Table:
    table = Table(title=title)
    for heading in ("way", "ms", "median", "faster", "fewer MACs", "efficiency"):
        table.add_column(heading, justify="left" if heading == "way" else "right", no_wrap=True)
    best = np.quantile(times, UNDISTURBED, axis=1)
    for way, ms, middle in zip(ways, best, np.median(times, axis=1), strict=True):
        faster, fewer = best[0] / ms, ways[0].macs / way.macs
        cells = (f"{ms:.2f}", f"{middle:.2f}", f"{faster:.2f}×", f"{fewer:.2f}×", f"{faster / fewer:.2f}")
        table.add_row(way.name, *cells)
    return table


if __name__ == "__main__":
    typer.run(main)
