"""The bench on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

_LABELS = {"onnxruntime": "ONNX Runtime", "torch": "torch, eager"}


def render_rows(document: Mapping[str, Any], runtime: str) -> Table:
    """Lay out the figures of one runtime, a row a network.

    Parameters
    ----------
    document : mapping
        Content of ``bench.json``.
    runtime : str
        One of its runtimes.

    Returns
    -------
    rich.table.Table
        File size; milliseconds and speed-up with its standard error for each batch size; peak memory at the largest.
    """
    batches = document["batches"]
    table = Table(
        title=f"{_LABELS.get(runtime, runtime)}, {document['threads']} threads, {document['machine']['processor']}",
        title_justify="left",
        caption=f"×: times faster than {document['reference']}, run in turn with it, ± one standard error; "
        f"peak: running, at batch {batches[-1]}",
        caption_justify="left",
    )
    table.add_column("network", no_wrap=True)
    for column in ("file MB", *(f"{unit} b{batch}" for batch in batches for unit in ("ms", "×")), "peak MB"):
        table.add_column(column, justify="right")
    found = [row for row in document["rows"] if row["runtime"] == runtime]
    for name in dict.fromkeys(row["network"] for row in found):
        rows = {row["batch"]: row for row in found if row["network"] == name}
        table.add_row(name, *_figures(rows, batches))
    return table


def _figures(rows: Mapping[int, Mapping[str, Any]], batches: list[int]) -> list[str]:
    figures = [f"{rows[batches[0]]['size_bytes'] / 1e6:.1f}"]
    for batch in batches:
        row = rows[batch]
        figures += [f"{row['ms']:.3g}", f"{row['speedup']:.2f} ±{row['speedup_se']:.2f}"]
    peak = rows[batches[-1]]["peak_mb"]
    return [*figures, "–" if peak is None else f"{peak:.0f}"]
