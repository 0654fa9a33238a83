"""The results table on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.names import method_label, network_label
from hscc.pipeline.statistics.results import (
    Row,
    batches,
    candidate_rows,
    dense_row,
    float_rows,
    preference,
    quantised_rows,
    read_document,
)
from hscc.pipeline.statistics.structure_grid import FIXED

_SHOWN = 2  # batch sizes; the others are in results.csv


def render(results_json: Path) -> Table:
    """Lay the results out as a table of at most 110 characters.

    Parameters
    ----------
    results_json : Path
        ``reports/results.json``.

    Returns
    -------
    rich.table.Table
        A row a network: the baseline and its compressed forms without controls and of the first seed, below the
        baseline and the best of each budget their int8 twins, then the baselines of the other protocols.

    Raises
    ------
    ArtifactError
        If the file is missing or is not a results file.
    """
    document = read_document(results_json)
    rows: list[Row] = document["rows"]
    own = [dense_row(rows, document["protocol"]), *candidate_rows(rows, document["protocol"])]
    others = [row for row in float_rows(rows) if row["protocol"] != document["protocol"]]
    twins = _best_twins(rows, document["protocol"])
    subject = "PHANTOM images, not patients" if document["phantom"] else "Test split"
    table = Table(
        title=f"{subject}, {document['protocol']} protocol, {own[0]['n_test']} test images (± one standard error)",
        title_justify="left",
        caption=_caption(document["data_hash"], document["git_commit"]),
        caption_justify="left",
    )
    table.add_column("network", no_wrap=True)
    timed = batches(rows)[:_SHOWN]
    for column in ("MACs", "params", "MB", "accuracy %", "KL", *(f"speed b{batch} (eff.)" for batch in timed)):
        table.add_column(column, justify="right", no_wrap=True)
    for row in own:
        twin = twins.get(_cell(row))
        table.add_row(network_label(row), *_figures(row, timed), end_section=row is own[-1] and not twin)
        if twin:
            table.add_row("└ in int8", *_figures(twin, timed), end_section=row is own[-1])
    for row in others:
        table.add_row(f"Dense, {row['protocol']} protocol", *_figures(row, timed))
    return table


def _best_twins(rows: list[Row], protocol: str) -> dict[tuple[str, float, int], Row]:
    """Find the twins of the baseline and of the network of each budget that validation prefers."""
    compressed = sorted(candidate_rows(rows, protocol), key=preference)
    best = {row["budget"]: _cell(row) for row in reversed(compressed)}
    shown = {*best.values(), *(_cell(row) for row in rows if row["method"] == DENSE)}
    return {_cell(row): row for row in quantised_rows(rows) if _cell(row) in shown}


def _cell(row: Row) -> tuple[str, float, int]:
    return row["method"], row["budget"], row["seed"]


def _caption(data_hash: str, commit: str) -> str:
    return (
        f"data {data_hash[:12]}, commit {commit[:12]}; MACs, params, speed: times fewer or faster than dense; "
        "eff.: speed / MACs"
    )


def _figures(row: Row, timed: list[int]) -> list[str]:
    return [
        f"{row['macs_ratio']:.2f}×",
        f"{row['params_ratio']:.2f}×",
        f"{row['size_bytes'] / 1e6:.1f}",
        f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_se']:.1f}",
        f"{row['kl_to_baseline']:.3f}",
        *(_speed(row, batch) for batch in timed),
    ]


def _speed(row: Row, batch: int) -> str:
    if row[f"speedup_b{batch}"] is None:
        return "–"
    return f"{row[f'speedup_b{batch}']:.2f}× ({row[f'efficiency_b{batch}']:.2f})"


def render_tradeoff(document: Mapping[str, Any]) -> Table:
    """Lay the trade-off out, a row a setting.

    Parameters
    ----------
    document : mapping
        Content of ``tradeoff.json``.

    Returns
    -------
    rich.table.Table
        Sections by budget and calibration; a star marks a figure that is on a Pareto front with the divergence.
    """
    batches = document["batches"]
    table = Table(
        title=f"Trade-off, {document['protocol']} protocol, {document['images']} validation images, no fine-tuning "
        "(± one standard error)",
        title_justify="left",
        caption=f"dense accuracy {_percent(document['dense'])}; MACs, params, speed: times fewer or faster than dense; "
        "*: no other setting has a smaller KL at as much of it",
        caption_justify="left",
    )
    for column in ("images", "structure", "MACs", "params", "loss", "KL", "accuracy %"):
        table.add_column(column, justify="left" if column == "structure" else "right", no_wrap=True)
    for batch in batches:
        table.add_column(f"speed b{batch}", justify="right", no_wrap=True)
    before: tuple[int, float] | None = None
    for row in document["rows"]:
        section = (row["images"], row["budget"])
        if before not in (None, section):
            table.add_section()
        before = section
        table.add_row(*_grid_figures(row, batches))
    return table


def structure_label(row: Mapping[str, Any]) -> str:
    """Name of a row's structure in running text, such as ``2×2 regions, 4 clusters`` or ``HSCC``."""
    if row["method"] != FIXED:
        return method_label(row["method"])
    clusters = "cluster" if row["clusters"] == 1 else "clusters"
    return f"{regions_label(row['regions'])}, {row['clusters']} {clusters}"


def regions_label(side: int) -> str:
    """Name of a partition of a feature map with so many regions a side, such as ``2×2 regions``."""
    return "1 region" if side == 1 else f"{side}×{side} regions"


def _grid_figures(row: Mapping[str, Any], batches: list[int]) -> list[str]:
    return [
        str(row["images"]),
        structure_label(row),
        f"{row['macs_ratio']:.2f}x{_star(row['on_front'])}",
        f"{row['params_ratio']:.2f}x",
        f"{row['predicted_loss']:.3f}",
        f"{row['val_kl']:.3f} ± {row['val_kl_se']:.3f}",
        _percent(row),
        *(f"{row[f'speedup_b{batch}']:.2f}x{_star(row[f'on_front_b{batch}'])}" for batch in batches),
    ]


def _percent(row: Mapping[str, Any]) -> str:
    return f"{100 * row['val_accuracy']:.1f} ± {100 * row['val_accuracy_se']:.1f}"


def _star(marked: bool) -> str:
    return "*" if marked else " "


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
        table.add_row(name, *_times(rows, batches))
    return table


def _times(rows: Mapping[int, Mapping[str, Any]], batches: list[int]) -> list[str]:
    figures = [f"{rows[batches[0]]['size_bytes'] / 1e6:.1f}"]
    for batch in batches:
        row = rows[batch]
        figures += [f"{row['ms']:.3g}", f"{row['speedup']:.2f} ±{row['speedup_se']:.2f}"]
    peak = rows[batches[-1]]["peak_mb"]
    return [*figures, "–" if peak is None else f"{peak:.0f}"]
