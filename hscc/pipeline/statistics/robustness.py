"""Networks that differ in their seed only: how far another seed would have led."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hscc.pipeline.artifacts import DENSE
from hscc.pipeline.statistics.comparisons import KL
from hscc.pipeline.statistics.results import Row, compressed_rows, dense_row, float_rows, read_document

SCORES = ("accuracy", "macro_f1", KL)


def summarise_seeds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Average over the seeds.

    Parameters
    ----------
    rows : sequence of dict
        Compressed networks of one protocol, of the results table.

    Returns
    -------
    list of dict
        ``method``, ``budget``, ``seeds`` (how many), and of accuracy, macro F1 and KL to the baseline ``<score>_mean``,
        ``<score>_sd``, ``<score>_se`` (of the mean: sd / sqrt n) and ``<score>_bootstrap_se`` (mean of the networks'
        own: what another test set would move). Networks of one seed are left out.
    """
    if not rows:
        return []
    return [
        {"method": method, "budget": budget, "seeds": len(group), **_figures(group)}
        for (method, budget), group in pd.DataFrame(rows).groupby(["method", "budget"], sort=False)
        if len(group) > 1
    ]


def _figures(group: pd.DataFrame) -> dict[str, float]:
    figures: dict[str, float] = {}
    for score in SCORES:
        deviation = float(group[score].std())
        figures[f"{score}_mean"] = float(group[score].mean())
        figures[f"{score}_sd"] = deviation
        figures[f"{score}_se"] = deviation / float(np.sqrt(len(group)))
        figures[f"{score}_bootstrap_se"] = float(group[f"{score}_se"].mean())
    return figures


LEAKY, CLEAN = "pooled", "grouped"  # near-copies of test images are trained on, or never
_SCORES = ("accuracy", "accuracy_se", "n_test")
_COST = ("accuracy_difference", "accuracy_difference_se", "accuracy_difference_low", "accuracy_difference_high")

Documents = Mapping[str, Mapping[str, Any]]


def read_protocols(results_json: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Read the results of every protocol that was run.

    Parameters
    ----------
    results_json : Path
        ``reports/results.json``.
    folder : Path
        Holds ``<protocol>.json``, a results table each; need not be there.

    Returns
    -------
    dict of str to dict
        Documents by protocol, that of `results_json` first.

    Raises
    ------
    ArtifactError
        If a file is not a results table.
    """
    own = read_document(results_json)
    others = {path.stem: read_document(path) for path in sorted(folder.glob("*.json"))}
    return {own["protocol"]: own, **{name: found for name, found in others.items() if name != own["protocol"]}}


def compare_protocols(documents: Documents) -> list[dict[str, Any]]:
    """Put the same method and budget under each protocol side by side.

    Parameters
    ----------
    documents : mapping of str to mapping
        Of `read_protocols`; baselines of a protocol without a document of its own are taken from the first.

    Returns
    -------
    list of dict
        The baseline, then each method and budget that more than one protocol has, with the first document's seed:
        ``method``, ``budget``, ``protocols`` (by name ``accuracy``, ``accuracy_se``, ``n_test`` and the paired
        ``accuracy_difference`` to the baseline with error and interval), and ``leakage`` with ``leakage_se``: accuracy
        under `LEAKY` minus that under `CLEAN`, of independent test sets and trainings; None where one is missing.
    """
    first = next(iter(documents.values()))
    dense = _baselines(documents)
    table = [_entry(DENSE, 1.0, dense)]
    for row in compressed_rows(first["rows"], first["protocol"]):
        found = {name: other for name, document in documents.items() if (other := _same(document, row))}
        if len(found) > 1:
            table.append(_entry(row["method"], row["budget"], found))
    return table


def _baselines(documents: Documents) -> dict[str, Row]:
    first = next(iter(documents.values()))
    found = {row["protocol"]: row for row in float_rows(first["rows"]) if row["method"] == DENSE}
    return found | {name: dense_row(document["rows"], name) for name, document in documents.items()}


def _same(document: Mapping[str, Any], wanted: Row) -> Row | None:
    rows = compressed_rows(document["rows"], document["protocol"])
    key = ("method", "budget", "seed")
    return next((row for row in rows if all(row[name] == wanted[name] for name in key)), None)


def _entry(method: str, budget: float, found: Mapping[str, Row]) -> dict[str, Any]:
    leaky, clean = found.get(LEAKY), found.get(CLEAN)
    return {
        "method": method,
        "budget": budget,
        "protocols": {name: {column: row[column] for column in (*_SCORES, *_COST)} for name, row in found.items()},
        "leakage": leaky["accuracy"] - clean["accuracy"] if leaky and clean else None,
        "leakage_se": math.hypot(leaky["accuracy_se"], clean["accuracy_se"]) if leaky and clean else None,
    }
