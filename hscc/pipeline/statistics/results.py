"""What is made of the results: flat tables, Pareto fronts, and the headline in words."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.pipeline.names import network_label
from hscc.pipeline.score_names import score_label
from hscc.pipeline.statistics.schema import (
    ONNXRUNTIME,
    ClassScores,
    Comparison,
    Estimate,
    NetworkRow,
    Record,
    Results,
)

Ints = npt.NDArray[np.int64]

_AT_BATCH = {  # field of a timing: its column
    "ms": "latency_ms_b{}",
    "ms_iqr": "latency_ms_b{}_iqr",
    "speedup": "speedup_b{}",
    "speedup_iqr": "speedup_b{}_iqr",
    "speedup_se": "speedup_b{}_se",
    "efficiency": "efficiency_b{}",
    "peak_mb": "peak_mb_b{}",
    "on_front": "on_front_b{}",
}


def headline(results: Results) -> str:
    """Say in one sentence what the network of `Results.chosen` gains and costs.

    Every figure has its error; a difference whose paired 95 % interval covers 0 is called within noise.
    """
    row, dense = results.chosen(), results.dense()
    return (
        f"{network_label(row)}: {row.macs_ratio:.1f} times fewer MACs, {_speed(row)}; test {score_label(row.score)} "
        f"{percent(row.primary)} against {percent(dense.primary)} of the dense network, {_cost(row)}."
    )


def percent(score: Estimate) -> str:
    """Show a score and its standard error in percent."""
    return f"{_number(score.value)} ± {_number(score.se)} %"


def points(difference: Estimate) -> str:
    """Show a difference of scores and its standard error in percentage points."""
    value = "–" if difference.value is None else signed(100 * difference.value)
    return f"{value} ± {_number(difference.se)} points"


def signed(value: float, digits: int = 1) -> str:
    """Show a number with its sign, a true minus, and no sign where it rounds to 0."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"+{text}" if value > 0 else f"−{text}"


def _number(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _speed(row: NetworkRow) -> str:
    timing = row.timing(1)
    if timing is None:
        return "not timed one image at a time"
    speedup, iqr = timing.speedup, timing.speedup_iqr
    if abs(speedup - 1) <= iqr / 2:
        return f"a speed-up of {speedup:.2f} one image at a time, which the clock (IQR {iqr:.2f}) cannot tell from 1"
    if speedup < 1:
        return f"yet {1 / speedup:.1f} times slower one image at a time"
    return f"{speedup:.1f} times faster one image at a time"


def _cost(row: NetworkRow) -> str:
    assert row.against_dense is not None  # of a compressed network
    difference = row.against_dense.primary
    if difference.covers_zero:
        return f"{points(difference)}: within noise on {row.n_test} images"
    kind = "a gain" if (difference.value or 0.0) > 0 else "a loss"
    return f"{points(difference)}: {kind} beyond noise on {row.n_test} images"


def headline_figures(rows: Iterable[NetworkRow]) -> dict[str, dict[str, float]]:
    """Pick the few figures of each network that ``dvc metrics diff`` shows, by the network's name."""
    shown = ("macro_f1", "kl", "macs_ratio", "params_ratio", "size_bytes", "speedup_b1", "efficiency_b1")
    figures = {row.name: (row.score, flatten(row)) for row in rows}
    return {
        name: {key: row[key] for key in dict.fromkeys((score, *shown)) if row.get(key) is not None}
        for name, (score, row) in figures.items()
    }


def flatten(record: Record) -> dict[str, Any]:
    """Make one row of a flat table of a record.

    Returns
    -------
    dict
        A column for each figure. A nested record gives columns under its field's name and its own: ``budget_macs``,
        ``accuracy``, ``accuracy_se``, ``against_dense`` (the other method), ``against_dense_accuracy``. Classes give
        ``f1_no_tumor``, timings ``speedup_b16``, those of other runtimes than the one that serves
        ``torch_speedup_b16``. A
        record that is None gives nothing.
    """
    served = record.runtime if isinstance(record, NetworkRow) else ONNXRUNTIME
    columns: dict[str, Any] = {}
    for name, value in record:
        columns |= _columns(name, value, served)
    return columns


def _columns(name: str, value: Any, served: str) -> dict[str, Any]:
    match value:
        case Estimate():
            return {name: value.value, f"{name}_se": value.se, f"{name}_low": value.low, f"{name}_high": value.high}
        case Comparison():
            figures = flatten(value)
            figures.pop("score")  # the row says it
            return {name: figures.pop("against"), **{f"{name}_{key}": figure for key, figure in figures.items()}}
        case ClassScores():
            scores = {"precision": value.precision, "recall": value.recall, "f1": value.f1, **value.scores}
            return _merge(_columns(f"{score}_{value.name}", estimate, served) for score, estimate in scores.items())
        case Record() if "batch" in type(value).model_fields:
            return _at_batch(dict(value), served)
        case Record():
            return {f"{name}_{key}": figure for key, figure in flatten(value).items()}
        case tuple():
            return _merge(_columns(name, item, served) for item in value)
        case dict():
            prefix = "" if name == "scores" else f"{name}_"
            return _merge(_columns(f"{prefix}{inner}", item, served) for inner, item in value.items())
        case _:
            return {name: value}


def _at_batch(timing: dict[str, Any], served: str) -> dict[str, Any]:
    runtime = timing.get("runtime", served)
    prefix = "" if runtime == served else f"{runtime}_"
    return {
        f"{prefix}{column.format(timing['batch'])}": timing[key] for key, column in _AT_BATCH.items() if key in timing
    }


def _merge(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {key: figure for part in parts for key, figure in part.items()}


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """Tabulate records with `flatten`, in the column order of the record that has most."""
    rows = [flatten(record) for record in records]
    order = dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row)
    return pd.DataFrame(rows, columns=list(order))


def pareto_frame(results: Results) -> pd.DataFrame:
    """Tabulate gain against the primary score, one row per network in floating point, for DVC's scatter plot."""
    columns = ["method", "budget_macs", "budget_params", "budget_latency", "seed", "macs_ratio", "params_ratio"]
    columns += [results.score, f"{results.score}_se", *(f"speedup_b{batch}" for batch in results.batches())]
    return frame([results.dense(), *results.compressed()])[columns]


def confusion_frame(labels: Ints, dense: Ints, chosen: Ints, name: str, classes: Sequence[str]) -> pd.DataFrame:
    """Tabulate truth and prediction, one row per image, for DVC's confusion plot.

    DVC counts the rows of a file into one matrix, so either network has a column of its own.

    Parameters
    ----------
    labels, dense, chosen : ndarray of int64, shape (N,)
        Class indices: true, predicted by the dense network, predicted by the chosen network.
    name : str
        Name of the chosen network.
    classes : sequence of str
        The class names.

    Returns
    -------
    pandas.DataFrame
        ``actual``, ``predicted`` (by the chosen network), ``dense``, ``network`` (its name).
    """
    names = np.asarray(classes)
    return pd.DataFrame({"actual": names[labels], "predicted": names[chosen], "dense": names[dense], "network": name})


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


def to_json(document: Mapping[str, Any]) -> str:
    """Write a document as JSON text, strict (no NaN), with a final newline."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_csv(table: pd.DataFrame) -> str:
    """Write a table as CSV text, with six significant digits."""
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n", float_format="%.6g")
    return buffer.getvalue()
