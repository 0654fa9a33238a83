"""The results table on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from hscc.evaluation.names import network_label
from hscc.evaluation.networks import DENSE
from hscc.evaluation.results import (
    Row,
    batches,
    candidate_rows,
    dense_row,
    float_rows,
    preference,
    quantised_rows,
    read_document,
)

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
