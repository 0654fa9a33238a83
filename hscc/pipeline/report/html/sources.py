"""What earlier stages wrote for the report: what is not there is left out of it, what is damaged is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import yaml
from pydantic import BaseModel, ValidationError

from hscc.errors import ArtifactError
from hscc.pipeline.report.html.sections.provenance_section import Lock


class _Registration(BaseModel):
    registered: str | None


CURVES = ("epoch", "train_loss", "val_loss")


def read_history(path: Path) -> pd.DataFrame | None:
    """Read one training curve.

    Parameters
    ----------
    path : Path
        A CSV with the columns of `CURVES` and one ``val_<score>`` per score, one row per epoch.

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


def read_registered(path: Path) -> str | None:
    """Read the name of the network that was registered, ``reports/registration.json``; None where none was.

    Raises
    ------
    ArtifactError
        If it is no such document.
    """
    if not path.is_file():
        return None
    try:
        return _Registration.model_validate_json(path.read_bytes()).registered
    except ValidationError as error:
        raise ArtifactError(f"{path} does not say what was registered; run `hscc register` again.") from error


def read_locks(path: Path) -> tuple[Lock, ...]:
    """Read what ``dvc.lock`` records of the outputs of the stages, in its order; empty where there is no such file.

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
        ``reports/runs``: one small JSON file per job, with ``run_id``.

    Returns
    -------
    dict of str to str
        Ids of runs by name of the job; empty where there is no such folder, and without files that are damaged: they
        are notes, not results.
    """
    runs: dict[str, str] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            runs[path.stem] = str(json.loads(path.read_text(encoding="utf-8"))["run_id"])
        except (ValueError, KeyError, TypeError):
            continue
    return runs
