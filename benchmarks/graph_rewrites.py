"""What the rewrites of `hscc.export.graph.simplify` gain on whole networks.

    python -m benchmarks.graph_rewrites artifacts/cells/hscc-macs6-seed0 --batch 16

A folder is exported anew from its weights, since the ONNX files of the pipeline are simplified already; a file is taken
as it is. Measured in CPU time of one thread, which holds on a machine that others use too.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import onnx
import typer
from rich.console import Console

import hscc
from benchmarks.common import new_table
from hscc.export.graph.simplify import simplify
from hscc.export.to_onnx import to_onnx
from hscc.timing.alternation import alternate
from hscc.timing.sessions import example_input, open_graph

_KINDS = ("Pad", "Slice", "Gather", "Conv", "Gemm")
_UNDISTURBED = 0.1  # quantile of the calls: other processes only ever add time
_CALLS = 10_000  # at most


def main(
    networks: Annotated[list[Path], typer.Argument(help="Folders of compressed networks, or ONNX files.")],
    batch: Annotated[int, typer.Option(help="Images per call.")] = 16,
    size: Annotated[int, typer.Option(help="Image side in pixels, for folders.")] = 224,
    seconds: Annotated[float, typer.Option(help="CPU seconds per network.")] = 10.0,
) -> None:
    """Print the table."""
    title = f"Simplified networks, batch {batch}, CPU time of one thread"
    table = new_table(title, "network", f"ms before, ms after, faster, {', '.join(_KINDS)}")
    for path in networks:
        original = onnx.load(path) if path.is_file() else to_onnx(hscc.load(path), (3, size, size))
        graphs = original, simplify(original)
        sessions = [open_graph(graph, threads=1) for graph in graphs]
        images = example_input(sessions[0], path, batch, size)
        calls = [partial(session.run, None, images) for session in sessions]
        times = alternate(*calls, repeats=_CALLS, seconds=seconds, clock=time.thread_time_ns)
        before, after = np.quantile(times, _UNDISTURBED, axis=1)
        counts = [Counter(node.op_type for node in graph.graph.node) for graph in graphs]
        changes = (f"{counts[0][kind]} > {counts[1][kind]}" for kind in _KINDS)
        table.add_row(str(path), f"{before:.2f}", f"{after:.2f}", f"{before / after:.3f}×", *changes)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
