"""One row a method and budget: the seeds of a network folded into their mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hscc.pipeline.statistics.results import Row

_OF_THE_CLOCK = re.compile(r"_b\d+$")


def fold(rows: Sequence[Row], seeds: Sequence[Mapping[str, Any]] = ()) -> list[Row]:
    """Fold networks that differ in their seed only into one row each.

    Parameters
    ----------
    rows : sequence of dict
        Of one protocol and precision.
    seeds : sequence of mapping
        The document's ``seeds``: mean, standard deviation and standard error over the seeds.

    Returns
    -------
    list of dict
        In the order in which the cells first appear. Scores and their bootstrap errors are means over the seeds;
        whatever is paired or timed is that of the first seed. Two columns are new: ``n_seeds`` and
        ``accuracy_seed_se``, the standard error of the mean over the seeds (None with one seed).
    """
    cells: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["method"], row["budget"]), []).append(row)
    spreads = {(entry["method"], entry["budget"]): entry.get("accuracy_se") for entry in seeds}
    return [_folded(same, spreads.get(cell)) for cell, same in cells.items()]


def _folded(same: Sequence[Row], spread: float | None) -> Row:
    first = min(same, key=lambda row: row["seed"])
    means = {name: _mean(same, name) for score in _scores(first) for name in (score, f"{score}_se")}
    return {**first, **means, "n_seeds": len(same), "accuracy_seed_se": spread if len(same) > 1 else None}


def _scores(row: Row) -> list[str]:
    return [name for name in row if f"{name}_se" in row and "difference" not in name and not _OF_THE_CLOCK.search(name)]


def _mean(rows: Sequence[Row], name: str) -> float | None:
    known = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(known)) if known else None
