"""The results table: which rows there are, and the files that hold it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.errors import ArtifactError
from hscc.pipeline.artifacts import DENSE, FLOAT, network_name
from hscc.pipeline.names import network_label
from hscc.pipeline.statistics.comparisons import KL

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


def pareto_front(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Mark the points that no other dominates.

    Parameters
    ----------
    first, second : array_like of float, shape (N,)
        Two figures of each point; more is better in both.

    Returns
    -------
    ndarray of bool, shape (N,)
        True unless another point is at least as good in both and better in one.
    """
    points = np.stack([np.asarray(first, dtype=float), np.asarray(second, dtype=float)], axis=1)
    no_worse = np.all(points[None] >= points[:, None], axis=2)
    better = np.any(points[None] > points[:, None], axis=2)
    front: npt.NDArray[np.bool_] = ~np.any(no_worse & better, axis=1)
    return front


Ints = npt.NDArray[np.int64]


def confusion_frame(labels: Ints, dense: Ints, chosen: Ints, name: str, classes: Sequence[str]) -> pd.DataFrame:
    """Tabulate truth and prediction, a row an image, for DVC's confusion plot.

    DVC counts the rows of a file into one matrix, so either network has a column of its own.

    Parameters
    ----------
    labels, dense, chosen : ndarray of int64, shape (N,)
        Class indices: true, predicted by the baseline, predicted by the recommended network.
    name : str
        Name of the recommended network.
    classes : sequence of str
        The class names.

    Returns
    -------
    pandas.DataFrame
        ``actual``, ``predicted`` (by the recommended network), ``dense``, ``method`` (its name).
    """
    names = np.asarray(classes)
    return pd.DataFrame({"actual": names[labels], "predicted": names[chosen], "dense": names[dense], "method": name})


def pareto_frame(rows: Sequence[Row], protocol: str) -> pd.DataFrame:
    """Tabulate gain against accuracy, a row a network of the protocol but int8 twins, for DVC's scatter plot."""
    columns = ["method", "budget", "seed", "macs_ratio", "params_ratio", "accuracy", "accuracy_se"]
    columns += [f"speedup_b{batch}" for batch in batches(rows)]
    return pd.DataFrame([row for row in float_rows(rows) if row["protocol"] == protocol])[columns]


Pair = Mapping[str, Any]


def recommended(rows: Sequence[Row], protocol: str) -> Row:
    """Pick the network that the report speaks about: see `hscc.pipeline.statistics.results.preference`."""
    return min(candidate_rows(rows, protocol), key=preference)


def headline(rows: Sequence[Row], protocol: str) -> str:
    """Say in one sentence what the recommended network gains and costs.

    Parameters
    ----------
    rows : sequence of dict
        The results table.
    protocol : str
        The protocol of the compressed networks.

    Returns
    -------
    str
        Every figure with its error; a difference whose paired 95 % interval covers 0 is called within noise.
    """
    row, dense = recommended(rows, protocol), dense_row(rows, protocol)
    return (
        f"{network_label(row)}: {row['macs_ratio']:.1f} times fewer MACs, {_speed(row)}; test accuracy "
        f"{percent(row, 'accuracy')} against {percent(dense, 'accuracy')} of the dense network, {_cost(row)}."
    )


def percent(row: Mapping[str, Any], name: str) -> str:
    """Show a score and its standard error in percent."""
    return f"{100 * row[name]:.1f} ± {100 * row[f'{name}_se']:.1f} %"


def points(pair: Pair, name: str = "accuracy") -> str:
    """Show a difference of scores and its standard error in percentage points."""
    return f"{signed(100 * pair[f'{name}_difference'])} ± {100 * pair[f'{name}_difference_se']:.1f} points"


def signed(value: float, digits: int = 1) -> str:
    """Show a number with its sign, a true minus, and no sign where it rounds to 0."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"+{text}" if value > 0 else f"−{text}"


def covers_zero(pair: Pair, name: str = "accuracy") -> bool:
    """Whether the paired 95 % interval of a difference covers 0."""
    return bool(pair[f"{name}_difference_low"] <= 0 <= pair[f"{name}_difference_high"])


def _speed(row: Mapping[str, Any]) -> str:
    speedup, iqr = row.get("speedup_b1"), row.get("speedup_b1_iqr")
    if speedup is None or iqr is None:
        return "not timed one image at a time"
    if abs(speedup - 1) <= iqr / 2:
        return f"a speed-up of {speedup:.2f} one image at a time, which the clock (IQR {iqr:.2f}) cannot tell from 1"
    if speedup < 1:
        return f"yet {1 / speedup:.1f} times slower one image at a time"
    return f"{speedup:.1f} times faster one image at a time"


def _cost(row: Mapping[str, Any]) -> str:
    if covers_zero(row):
        return f"{points(row)}: within noise on {row['n_test']} images"
    kind = "a gain" if row["accuracy_difference"] > 0 else "a loss"
    return f"{points(row)}: {kind} beyond noise on {row['n_test']} images"
