"""What earlier stages left for the report; what is not there is left out of it, what is damaged is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hscc.errors import ArtifactError
from hscc.pipeline.report.html.sections.provenance_section import Lock

_TRADEOFF = {"rows"}
_INSIGHT = {"network", "classes"}
_REGISTRATION = {"registered"}

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


def read_tradeoff(path: Path) -> dict[str, Any] | None:
    """Read the grid of the trade-off, ``reports/tradeoff.json``.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict or None
        None where there is no such file.

    Raises
    ------
    ArtifactError
        If it is no such document.
    """
    return _read(path, _TRADEOFF, "hscc tradeoff")


def read_insight(path: Path) -> dict[str, Any] | None:
    """Read what was seen inside the networks, ``reports/insight.json``; see `read_tradeoff`."""
    return _read(path, _INSIGHT, "hscc insight")


def read_registered(path: Path) -> str | None:
    """Read which network the registry's policy took, ``reports/registration.json``.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str or None
        Name of the network; None where there is no such file, or none was taken.

    Raises
    ------
    ArtifactError
        If it is no such document.
    """
    found = _read(path, _REGISTRATION, "hscc register")
    return None if found is None else found["registered"]


def read_locks(path: Path) -> tuple[Lock, ...]:
    """Read what the runner of the graph recorded of the outputs of the stages.

    Parameters
    ----------
    path : Path
        ``dvc.lock``.

    Returns
    -------
    tuple of Lock
        In the file's order; empty where there is none.

    Raises
    ------
    ArtifactError
        If it is no such record.
    """
    if not path.is_file():
        return ()
    try:
        stages = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"]
        return tuple(
            Lock(name, output["path"], output["md5"])
            for name, stage in stages.items()
            for output in stage.get("outs") or ()
        )
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is no record of stages; restore it, for example from git.") from error


def read_runs(folder: Path) -> dict[str, str]:
    """Read which tracked run holds the figures of each job.

    Parameters
    ----------
    folder : Path
        ``reports/runs``: a small JSON file a job, with ``run_id``.

    Returns
    -------
    dict of str to str
        Ids of runs by name of the job; empty where there is no such folder, and without files that are damaged: they
        are notes, no results.
    """
    runs: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            runs[path.stem] = str(json.loads(path.read_text(encoding="utf-8"))["run_id"])
        except (ValueError, KeyError, TypeError):
            continue
    return runs


def _read(path: Path, needed: set[str], command: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON; run `{command}` again.") from error
    if not isinstance(document, dict) or not needed.issubset(document):
        raise ArtifactError(f"{path} is not a document of this version; run `{command}` again.")
    return document
