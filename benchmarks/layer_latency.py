"""How fast ONNX Runtime executes regions and clusters of one layer, by the way in which the graph expresses them.

    python -m benchmarks.layer_latency --layer features.3 --batch 16

Efficiency is the speed-up over dense divided by the reduction of multiply-accumulates: 1 means that all of the saving
shows as time. All executions are timed in turn and compared by the first decile of their calls, since other processes
only ever add time. On a busy machine, --cpu counts the CPU time of one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track

from benchmarks.common import CLASSES, new_table
from benchmarks.layer_executions import executions
from hscc.calibration.layers import find_layers
from hscc.networks.backbones import build
from hscc.timing.alternation import Call, Times
from hscc.timing.sessions import open_graph

_UNDISTURBED = 0.1  # quantile of the calls
_WARM_UP = 2


def main(
    backbone: Annotated[str, typer.Option(help="Registered name.")] = "alexnet",
    layer: Annotated[str, typer.Option(help="Module path of a convolution.")] = "features.3",
    size: Annotated[int, typer.Option(help="Image side in pixels.")] = 224,
    batch: Annotated[int, typer.Option(help="Images per call.")] = 16,
    ratio: Annotated[float, typer.Option(help="Least reduction of multiply-accumulates.")] = 5.0,
    threads: Annotated[int, typer.Option(help="Threads of an operator.")] = 2,
    cpu: Annotated[bool, typer.Option("--cpu", help="CPU time of one thread instead of wall time.")] = False,
    seconds: Annotated[float, typer.Option(help="Duration.")] = 40.0,
    only: Annotated[str, typer.Option(help="Only executions whose name contains this, and dense.")] = "",
) -> None:
    """Print the table."""
    layers, _ = find_layers(build(backbone, CLASSES), (3, size, size))
    convolutions = {entry.name: entry for entry in layers if entry.kind == "conv"}
    if layer not in convolutions:
        raise typer.BadParameter(f"{backbone} has no convolution {layer}; choose one of {', '.join(convolutions)}.")
    chosen = convolutions[layer]
    compared = [entry for entry in executions(chosen, ratio) if only in entry.name or entry.name == "dense"]
    threads, clock = (1, time.thread_time_ns) if cpu else (threads, time.perf_counter_ns)
    images = np.random.default_rng(0).standard_normal((batch, chosen.inputs, *chosen.input_grid), dtype=np.float32)
    sessions = [open_graph(entry.graph(chosen), threads) for entry in compared]
    calls = [partial(session.run, None, {session.get_inputs()[0].name: images}) for session in sessions]
    times = take_turns(calls, seconds, clock)
    counted = "CPU time of one thread" if cpu else f"{threads} threads"
    title = f"{backbone} {layer}, batch {batch}, {counted}, {times.shape[1]} calls each"
    table = new_table(title, "execution", "ms, median, faster, fewer MACs, efficiency")
    best, medians = np.quantile(times, _UNDISTURBED, axis=1), np.median(times, axis=1)
    for entry, ms, median in zip(compared, best, medians, strict=True):
        faster, fewer = best[0] / ms, compared[0].macs / entry.macs
        numbers = f"{ms:.2f}", f"{median:.2f}", f"{faster:.2f}×", f"{fewer:.2f}×", f"{faster / fewer:.2f}"
        table.add_row(entry.name, *numbers)
    Console(width=120).print(table)


def take_turns(calls: Sequence[Call], seconds: float, clock: Callable[[], int]) -> Times:
    """Time any number of calls in rounds, each round in another order.

    Returns
    -------
    ndarray of float64, shape (calls, rounds)
        Milliseconds per call.
    """
    for call in calls:
        for _ in range(_WARM_UP):
            call()
    started = time.perf_counter()
    _round(calls, np.arange(len(calls)), clock)
    rounds = max(int(seconds / (time.perf_counter() - started)), 3)
    generator = np.random.default_rng(0)
    orders = (generator.permutation(len(calls)) for _ in track(range(rounds), "Measuring", transient=True))
    return np.stack([_round(calls, order, clock) for order in orders], axis=1)


def _round(calls: Sequence[Call], order: npt.NDArray[np.int64], clock: Callable[[], int]) -> Times:
    times = np.empty(len(calls))
    for index in order:
        started = clock()
        calls[index]()
        times[index] = (clock() - started) / 1e6
    return times


if __name__ == "__main__":
    typer.run(main)
