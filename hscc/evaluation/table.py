"""The results table on a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from hscc.evaluation.names import method_label
from hscc.evaluation.networks import DENSE
from hscc.evaluation.results import Row, batches, read_document


def render(results_json: Path) -> Table:
    """Lay the results out as a table of at most 110 characters.

    Parameters
    ----------
    results_json : Path
        ``reports/results.json``.

    Returns
    -------
    rich.table.Table
        A row a network: the baseline and its compressed forms, then the baselines of the other protocols.

    Raises
    ------
    ArtifactError
        If the file is missing or is not a results file.
    """
    document = read_document(results_json)
    rows: list[Row] = document["rows"]
    own = [row for row in rows if row["protocol"] == document["protocol"]]
    others = [row for row in rows if row["protocol"] != document["protocol"]]
    subject = "PHANTOM images, not patients" if document["phantom"] else "Test split"
    several_seeds = len({row["seed"] for row in own if row["method"] != DENSE}) > 1
    table = Table(
        title=f"{subject}, {document['protocol']} protocol, {own[0]['n_test']} test images (± one standard error)",
        title_justify="left",
        caption=_caption(document["data_hash"], document["git_commit"]),
        caption_justify="left",
    )
    table.add_column("network", no_wrap=True)
    columns = ["MACs", "params", "accuracy %", "macro F1 %", "KL", *(f"speed b{batch}" for batch in batches(rows))]
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in own:
        table.add_row(_name(row, several_seeds), *_figures(row, batches(rows)), end_section=row is own[-1])
    for row in others:
        table.add_row(f"Dense, {row['protocol']} protocol", *_figures(row, batches(rows)))
    return table


def _caption(data_hash: str, commit: str) -> str:
    return f"data {data_hash[:12]}, commit {commit[:12]}; MACs, params, speed: times fewer or faster than dense"


def _name(row: Row, several_seeds: bool) -> str:
    if row["method"] == DENSE:
        return method_label(DENSE)
    seed = f", seed {row['seed']}" if several_seeds else ""
    return f"{method_label(row['method'])}, {row['budget']:g}×{seed}"


def _figures(row: Row, timed: list[int]) -> list[str]:
    return [
        f"{row['macs_ratio']:.2f}×",
        f"{row['params_ratio']:.2f}×",
        f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_se']:.1f}",
        f"{100 * row['macro_f1']:.1f} ± {100 * row['macro_f1_se']:.1f}",
        f"{row['kl_to_baseline']:.3f}",
        *(f"{row[f'speedup_b{batch}']:.2f}×" for batch in timed),
    ]
