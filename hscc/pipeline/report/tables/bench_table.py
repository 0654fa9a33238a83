"""Time and memory of every network that was timed in one runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hscc.pipeline.benchmark.measurement import Bench, BenchRow
from hscc.pipeline.report.table import Cell, Line, Measure, Table, cells_of, columns_of, figure, measure
from hscc.pipeline.report.wording import RUNTIME_NAMES

Rows = Sequence[BenchRow]
"""Rows of one network, by batch size ascending."""


def bench_table(bench: Bench, runtime: str) -> Table:
    """Tabulate one row per network: file size, milliseconds and speed-ups by batch size, peak memory at the largest."""
    by_network: dict[str, list[BenchRow]] = {}
    for row in bench.rows:
        if row.runtime == runtime:
            by_network.setdefault(row.network, []).append(row)
    measures: list[Measure[Rows]] = [
        measure("file MB", lambda rows: figure(rows[0].size_bytes, 1, factor=1e-6)),
        *(column for place, batch in enumerate(bench.batches) for column in _of_batch(place, batch)),
        *(_over(place, batch) for place, batch in enumerate(bench.batches) if _has_over(by_network)),
        measure("peak MB", lambda rows: figure(rows[-1].peak_mb, 0)),
    ]
    lines = tuple(Line(name, cells_of(rows, measures)) for name, rows in by_network.items())
    caption = f"{RUNTIME_NAMES.get(runtime, runtime)}, {bench.threads} threads, {bench.machine.processor}"
    return Table(caption, "network", columns_of(measures), lines)


def bench_note(bench: Bench) -> str:
    """Say what the columns of `bench_table` are."""
    return (
        f"×: times faster than {bench.reference}, run in alternation with it, ± one standard error; × ORT: than "
        f"{bench.reference} in ONNX Runtime; peak: while running, at batch {bench.batches[-1]}"
    )


def _has_over(by_network: Mapping[str, Rows]) -> bool:
    return any(row.speedup_over_onnxruntime is not None for rows in by_network.values() for row in rows)


def _over(place: int, batch: int) -> Measure[Rows]:
    return measure(f"× ORT b{batch}", lambda rows: figure(rows[place].speedup_over_onnxruntime))


def _of_batch(place: int, batch: int) -> tuple[Measure[Rows], Measure[Rows]]:
    def speedup(rows: Rows) -> Cell:
        return figure(rows[place].speedup, aside=f"±{rows[place].speedup_se:.2f}")

    return measure(f"ms b{batch}", lambda rows: Cell(f"{rows[place].ms:.3g}", value=rows[place].ms)), measure(
        f"× b{batch}", speedup
    )
