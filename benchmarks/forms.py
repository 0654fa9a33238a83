"""Ways to execute regions and clusters of one layer in ONNX Runtime, side by side.

    python -m benchmarks.forms --layer features.3 --batch 16

Efficiency is the speed-up over dense divided by how many times fewer multiply-accumulates there are: 1 means that what
was saved on paper was saved on the clock. All ways are timed in turn within one run, and compared by the first decile
of their calls: what interrupts a call on a machine that others use too only ever adds. Where no call is left alone,
--cpu counts what one thread computes and not what it waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import numpy.typing as npt
import onnxruntime
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.executions import Execution, executions
from hscc.calibration.layers import find_layers
from hscc.models.backbones import build

Session = onnxruntime.InferenceSession
Images = npt.NDArray[np.float32]
Clock = Callable[[], int]

_WARM_UP = 2
_QUANTILE = 0.1


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
    sessions = [_open(way.model(chosen), threads) for way in ways]
    images = np.random.default_rng(0).standard_normal((batch, chosen.inputs, *chosen.input_grid), dtype=np.float32)
    times = _measure(sessions, images, seconds, clock)
    counted = "CPU time of one thread" if cpu else f"{threads} threads"
    title = f"{backbone} {layer}, batch {batch}, {counted}, {times.shape[1]} calls each"
    Console(width=120).print(_table(title, ways, times))


def _open(model: bytes, threads: int) -> Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # see hscc.evaluation.latency
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _measure(sessions: list[Session], images: Images, seconds: float, clock: Clock) -> npt.NDArray[np.float64]:
    """Time all sessions in turn, each round in another order; give milliseconds, shape (sessions, rounds)."""
    for session in sessions:
        for _ in range(_WARM_UP):
            session.run(None, {"x": images})
    started = time.perf_counter()
    _round(sessions, images, np.arange(len(sessions)), clock)
    rounds = max(int(seconds / (time.perf_counter() - started)), 3)
    generator = np.random.default_rng(0)
    times = [
        _round(sessions, images, generator.permutation(len(sessions)), clock)
        for _ in track(range(rounds), "Measuring", transient=True)
    ]
    return np.stack(times, axis=1)


def _round(
    sessions: list[Session], images: Images, order: npt.NDArray[np.int64], clock: Clock
) -> npt.NDArray[np.float64]:
    times = np.empty(len(sessions))
    for index in order:
        started = clock()
        sessions[index].run(None, {"x": images})
        times[index] = (clock() - started) / 1e6
    return times


def _table(title: str, ways: list[Execution], times: npt.NDArray[np.float64]) -> Table:
    table = Table(title=title)
    for heading in ("way", "ms", "median", "faster", "fewer MACs", "efficiency"):
        table.add_column(heading, justify="left" if heading == "way" else "right", no_wrap=True)
    best = np.quantile(times, _QUANTILE, axis=1)
    for way, ms, middle in zip(ways, best, np.median(times, axis=1), strict=True):
        faster, fewer = best[0] / ms, ways[0].macs / way.macs
        cells = (f"{ms:.2f}", f"{middle:.2f}", f"{faster:.2f}×", f"{fewer:.2f}×", f"{faster / fewer:.2f}")
        table.add_row(way.name, *cells)
    return table


if __name__ == "__main__":
    typer.run(main)
