"""Networks that differ in their seed only: how far another seed would have led."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hscc.evaluation.scoring import KL

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
