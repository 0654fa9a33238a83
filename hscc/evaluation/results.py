"""The results table: which rows there are, and the files that hold it."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hscc.errors import ArtifactError
from hscc.evaluation.networks import DENSE, FLOAT, network_name
from hscc.evaluation.scoring import KL

Row = dict[str, Any]

_NEEDED = {"protocol", "phantom", "classes", "data_hash", "git_commit", "rows"}


def row_name(row: Mapping[str, Any]) -> str:
    """Name of the network that a row is about."""
    return network_name(row["method"], row["budget"], row["seed"], row["protocol"], _precision(row))


def batches(rows: Sequence[Mapping[str, Any]], prefix: str = "latency_ms_b") -> list[int]:
    """Batch sizes that were timed, ascending: those for which there is a column of that prefix."""
    matches = (re.fullmatch(rf"{prefix}(\d+)", column) for column in rows[0])
    return sorted(int(match.group(1)) for match in matches if match)


def preference(row: Mapping[str, Any]) -> tuple[float, float, float, str]:
    """Sort key that puts the network to recommend first.

    The most compressed tier first; inside a tier the best on validation: accuracy, then closeness to the baseline. The
    test split has no say, so that its figures stay an unbiased account of what was chosen.
    """
    return (-row["budget"], -row["val_accuracy"], row["val_kl"], row_name(row))


def dense_row(rows: Iterable[Row], protocol: str) -> Row:
    """Find the baseline of one protocol among the rows."""
    return next(row for row in float_rows(rows) if row["method"] == DENSE and row["protocol"] == protocol)


def compressed_rows(rows: Iterable[Row], protocol: str) -> list[Row]:
    """All compressed networks of one protocol, in the table's order, without their int8 twins."""
    return [row for row in float_rows(rows) if row["method"] != DENSE and row["protocol"] == protocol]


def candidate_rows(rows: Iterable[Row], protocol: str) -> list[Row]:
    """Compressed networks of one protocol that may be deployed: no control, and of the first seed, which was timed."""
    found = compressed_rows(rows, protocol)
    return [row for row in found if row.get("role") != "control" and row["seed"] == found[0]["seed"]]


def float_rows(rows: Iterable[Row]) -> list[Row]:
    """Networks as they were trained."""
    return [row for row in rows if _precision(row) == FLOAT]


def quantised_rows(rows: Iterable[Row]) -> list[Row]:
    """Int8 twins, of the baseline too, in the table's order."""
    return [row for row in rows if _precision(row) != FLOAT]


def twins_of(row: Row, rows: Iterable[Row]) -> list[Row]:
    """Int8 twins of one network among the rows."""
    same = ("method", "budget", "seed", "protocol")
    return [twin for twin in quantised_rows(rows) if all(twin[name] == row[name] for name in same)]


def _precision(row: Mapping[str, Any]) -> str:
    return str(row.get("precision", FLOAT))  # tables of earlier versions know no other


def headline_figures(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Pick the few figures of each network that ``dvc metrics diff`` is to show, by name."""
    shown = ("accuracy", "macro_f1", KL, "macs_ratio", "params_ratio", "size_bytes", "speedup_b1", "efficiency_b1")
    return {row_name(row): {name: row[name] for name in shown if row.get(name) is not None} for row in rows}


def read_document(path: Path) -> dict[str, Any]:
    """Read ``results.json``.

    Parameters
    ----------
    path : Path
        The file that evaluate wrote.

    Returns
    -------
    dict
        Of which ``rows`` is the table.

    Raises
    ------
    ArtifactError
        If it is missing or is not a results file.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `hscc evaluate`, or `dvc repro`.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON; run `hscc evaluate` again.") from error
    if not isinstance(document, dict) or not _NEEDED.issubset(document) or not document["rows"]:
        raise ArtifactError(f"{path} is not a results table of this version; run `hscc evaluate` again.")
    return document


def to_json(document: Mapping[str, Any]) -> str:
    """Write a document as JSON text, strict (no NaN), with a final newline."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(frame: pd.DataFrame) -> str:
    """Write a table as CSV text; six significant digits are more than any figure here carries."""
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n", float_format="%.6g")
    return buffer.getvalue()


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all; its folder is made."""
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
