"""Tables from which every figure can be drawn or computed again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.evaluation.results import Row, batches, float_rows

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
