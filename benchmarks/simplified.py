"""What the rewrites of `hscc.export.graph.simplify` gain on whole networks.

    python -m benchmarks.simplified artifacts/cells/hscc_bands-6-0/model.onnx --batch 16

By the CPU time of one thread: it counts what is computed and moved, and holds on a machine that others use.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.timing import UNDISTURBED, measure, open_session
from hscc.export.graph.simplify import simplify

_KINDS = ("Pad", "Slice", "Gather", "Conv", "Gemm")


def main(
    files: Annotated[list[Path], typer.Argument(help="ONNX networks that take float images.")],
    batch: Annotated[int, typer.Option(help="Images a call.")] = 16,
    seconds: Annotated[float, typer.Option(help="How long to measure each file.")] = 10.0,
) -> None:
    """Print the table."""
    table = Table(title=f"Simplified networks, batch {batch}, CPU time of one thread")
    for heading in ("network", "ms before", "ms after", "faster", *_KINDS):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for path in files:
        before = onnx.load(path)
        after = simplify(before)
        sessions = [open_session(proto.SerializeToString(), 1) for proto in (before, after)]
        shape = (batch, *sessions[0].get_inputs()[0].shape[1:])
        images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        old, new = np.quantile(measure(sessions, images, seconds, time.thread_time_ns), UNDISTURBED, axis=1)
        counts = [Counter(node.op_type for node in proto.graph.node) for proto in (before, after)]
        changes = (f"{counts[0][kind]} > {counts[1][kind]}" for kind in _KINDS)
        table.add_row(path.parent.name, f"{old:.2f}", f"{new:.2f}", f"{old / new:.3f}×", *changes)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
