"""All networks in one table: a row a method and budget, its seeds folded, single seeds and int8 twins on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.names import network_label
from hscc.pipeline.report.html.sections.section import (
    NOTHING,
    Cell,
    Column,
    Line,
    Section,
    Table,
    chance,
    difference,
    figure,
    with_error,
    with_spread,
)
from hscc.pipeline.report.html.seed_means import fold
from hscc.pipeline.report.html.series import role
from hscc.pipeline.statistics.results import Row, batches, float_rows, quantised_rows
from hscc.pipeline.statistics.rows import BASELINE, COMPARED, CONTROL

SEED, INT8 = "seed", "int8"
_KINDS = {COMPARED: "methods", CONTROL: "controls", SEED: "each seed", INT8: "int8 twins"}
_GROUPS = {
    "scores": "more scores",
    "svd": "against Global SVD",
    "clock": "times and memory",
    "torch": "in torch",
    "before": "before fine-tuning",
}
_SHOWN = 2  # batch sizes whose speed-up is always shown


def results_section(document: Mapping[str, Any], chosen: Row) -> Section:
    """Lay out the results table.

    Parameters
    ----------
    document : mapping
        Content of ``results.json``.
    chosen : dict
        The recommended network, to be marked.

    Returns
    -------
    Section
        With the table, the kinds of rows and the groups of columns that can be shown or hidden.
    """
    own = [row for row in document["rows"] if row["protocol"] == document["protocol"]]
    lines = _lines(document, own, chosen)
    columns = _columns(own)
    table = Table(
        caption=f"Test scores of the deployed ONNX files, {document['protocol']} protocol",
        first="network",
        columns=tuple(column for column, _ in columns),
        lines=tuple(_line(row, kind, aside, columns, chosen) for row, kind, aside in lines),
    )
    present = {line.kind for line in table.lines}
    return Section(
        "results",
        "All networks",
        {
            "table": table,
            "kinds": {kind: label for kind, label in _KINDS.items() if kind in present},
            "groups": {
                group: label
                for group, label in _GROUPS.items()
                if any(column.group == group for column in table.columns)
            },
            "several_seeds": SEED in present,
            "clock": document.get("clock", {}),
        },
    )


def _lines(document: Mapping[str, Any], own: Sequence[Row], chosen: Row) -> list[tuple[Row, str, str]]:
    """Rows of the table with their kind and what stands beside their name: folded, each seed below, twins last."""
    floats = float_rows(own)
    lines: list[tuple[Row, str, str]] = []
    for row in fold(floats, document.get("seeds") or ()):
        several = row["n_seeds"] > 1
        lines.append((row, role(row), ""))
        same = [found for found in floats if (found["method"], found["budget"]) == (row["method"], row["budget"])]
        if several:
            lines += [(found, SEED, f"seed {found['seed']}") for found in same]
    several_seeds = len({row["seed"] for row in quantised_rows(own) if row["method"] != DENSE}) > 1
    lines += [(row, INT8, f"seed {row['seed']}" if several_seeds else "") for row in quantised_rows(own)]
    return lines


def _line(row: Row, kind: str, aside: str, columns: Sequence[tuple[Column, Any]], chosen: Row) -> Line:
    is_chosen = kind in (BASELINE, COMPARED) and all(
        row[name] == chosen[name] for name in ("method", "budget", "precision")
    )
    return Line(network_label(row), tuple(cell(row) for _, cell in columns), kind, aside, is_chosen)


def _columns(rows: Sequence[Row]) -> list[tuple[Column, Any]]:
    timed, torch = batches(rows), batches(rows, "torch_latency_ms_b")
    return [
        *_savings(),
        *_accuracy(len({row["seed"] for row in rows if row["method"] != DENSE}) > 1),
        *(_speed(batch, "" if place < _SHOWN else "clock") for place, batch in enumerate(timed)),
        *_scores(),
        *_global_svd(),
        *(column for batch in timed for column in _clock(batch)),
        *(_torch_speed(batch) for batch in torch),
        *_before(),
    ]


def _savings() -> list[tuple[Column, Any]]:
    return [
        (Column("fewer MACs"), lambda row: figure(row["macs_ratio"], 2, "×")),
        (Column("fewer params"), lambda row: figure(row["params_ratio"], 2, "×")),
        (Column("file, MB"), lambda row: figure(row["size_bytes"], 1, factor=1e-6)),
    ]


def _accuracy(several_seeds: bool) -> list[tuple[Column, Any]]:
    spread = Column("± over seeds")
    return [
        (Column("accuracy, %"), lambda row: with_error(row, "accuracy", 1, 100.0)),
        *([(spread, _seed_spread)] if several_seeds else []),
        (Column("to dense, points [95\u00a0%]"), _but_dense(difference, "accuracy_difference")),
        (Column("p, Holm"), lambda row: chance(_corrected(row))),
        (Column("KL to dense, nats"), _but_dense(with_error, "kl_to_baseline")),
    ]


def _scores() -> list[tuple[Column, Any]]:
    percent = ("balanced accuracy", "balanced_accuracy"), ("macro F1", "macro_f1"), ("agreement", "agreement")
    shares = ("ROC AUC", "roc_auc"), ("ECE", "ece"), ("Brier", "brier")
    return [
        *(
            (Column(f"{label}, %", group="scores"), lambda row, name=name: with_error(row, name, 1, 100.0))
            for label, name in percent
        ),
        *((Column(label, group="scores"), lambda row, name=name: with_error(row, name)) for label, name in shares),
    ]


def _global_svd() -> list[tuple[Column, Any]]:
    return [
        (
            Column("to Global SVD, points [95\u00a0%]", group="svd"),
            lambda row: difference(row, "global_svd_accuracy_difference"),
        ),
        (
            Column("KL to Global SVD's [95\u00a0%]", group="svd"),
            lambda row: difference(row, "global_svd_kl_difference", 3, 1.0),
        ),
        (Column("p to Global SVD, Holm", group="svd"), lambda row: chance(row.get("global_svd_mcnemar_p_holm"))),
    ]


def _speed(batch: int, group: str) -> tuple[Column, Any]:
    column = Column(f"speed-up, batch {batch} (IQR)", group=group)
    return column, lambda row: with_spread(row, f"speedup_b{batch}", 2, "×")


def _clock(batch: int) -> list[tuple[Column, Any]]:
    return [
        (
            Column(f"ms, batch {batch} (IQR)", group="clock"),
            lambda row: with_spread(row, f"latency_ms_b{batch}"),
        ),
        (
            Column(f"efficiency, batch {batch}", group="clock"),
            lambda row: figure(row.get(f"efficiency_b{batch}")),
        ),
        (Column(f"peak MB, batch {batch}", group="clock"), lambda row: figure(row.get(f"peak_mb_b{batch}"), 0)),
    ]


def _torch_speed(batch: int) -> tuple[Column, Any]:
    column = Column(f"speed-up in torch, batch {batch}", group="torch")
    return column, lambda row: figure(row.get(f"torch_speedup_b{batch}"), 2, "×")


def _before() -> list[tuple[Column, Any]]:
    return [
        (
            Column("validation accuracy before, %", group="before"),
            lambda row: figure(row.get("val_accuracy_before"), 1, factor=100.0),
        ),
        (Column("validation KL before, nats", group="before"), lambda row: figure(row.get("val_kl_before"), 3)),
        (Column("predicted loss", group="before"), lambda row: figure(row.get("predicted_loss"), 3)),
    ]


def _seed_spread(row: Row) -> Cell:
    return figure(row.get("accuracy_seed_se"), 2, factor=100.0, aside=f"of {row.get('n_seeds')}")


def _but_dense(make: Any, name: str) -> Any:
    def cell(row: Row) -> Cell:
        return NOTHING if row["method"] == DENSE and row["precision"] == "fp32" else make(row, name)

    return cell


def _corrected(row: Row) -> float | None:
    return None if row["method"] == DENSE else row.get("mcnemar_p_holm")
