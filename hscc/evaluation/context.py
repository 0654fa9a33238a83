"""What earlier stages left for the report: training curves and what was found in the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from hscc.errors import ArtifactError

CURVES = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


def read_history(path: Path) -> pd.DataFrame | None:
    """Read one training curve.

    Parameters
    ----------
    path : Path
        A CSV with the columns of `CURVES`, a row an epoch.

    Returns
    -------
    pandas.DataFrame or None
        None where there is no such file.

    Raises
    ------
    ArtifactError
        If the file is no such table.
    """
    if not path.is_file():
        return None
    try:
        history = pd.read_csv(path)
    except ValueError as error:
        raise ArtifactError(f"{path} is not a table; run `hscc train` again.") from error
    absent = [name for name in CURVES if name not in history]
    if absent:
        raise ArtifactError(f"{path} lacks the column {absent[0]}; run `hscc train` again.")
    return history


def read_findings(path: Path) -> list[dict[str, Any]]:
    """Read what the checks found in the data.

    Parameters
    ----------
    path : Path
        ``reports/data.json``.

    Returns
    -------
    list of dict
        Its ``findings``; empty where there is no such file.

    Raises
    ------
    ArtifactError
        If the file holds no such list.
    """
    if not path.is_file():
        return []
    try:
        findings: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["findings"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} holds no list of findings; run `hscc validate` again.") from error
    return findings
