"""Predictions on each test image, kept with a version, so that two versions can be compared as a pair.

An image is named by the hash of its bytes: two versions were tested on the same images where the hashes agree, whatever
has happened to folders and splits since.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from hscc.errors import ArtifactError
from hscc.pipeline.statistics.predictions import (
    LABEL_LOGIT,
    TRUTH,
    VALUE,
    Form,
    classes_of,
    form_of,
    logits_of,
    network_rows,
    numbers_of,
    predictions_of,
)
from hscc.pipeline.statistics.schema import network_name

COLUMNS = ("sha256", "copy", "group", "label", "predicted", "dense")
CHANCE = "p_"  # before a class: what the version gave to it, in each image; early versions did not keep that
DENSE_CHANCE = "dense_p_"  # likewise its dense network
TARGET_COLUMNS = ("sha256", "copy", "group")  # of labels and values, with `TRUTH` and `CHANCE` or `NUMBER` of each
NUMBER, DENSE_NUMBER = "number_", "dense_number_"  # before a value: what the version and its dense network gave
MAP_COLUMNS = ("sha256", "copy", "group", "value", "dense_value")  # of segmentations: the primary score of each image
IMAGE = ["sha256", "copy"]  # a data set may hold the same bytes twice

_NUMBERS = ("copy", "group")


def evidence_frame(
    predictions: pd.DataFrame, manifest: pd.DataFrame, network: str, protocol: str, score: str = "accuracy"
) -> pd.DataFrame:
    """Gather one network's test predictions.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Of `hscc.pipeline.statistics.predictions.read_predictions`.
    manifest : pandas.DataFrame
        Gives each path its ``sha256`` and near-copy ``group``.
    network : str
        Its name.
    protocol : str
        Which test split.
    score : str
        Name of the primary score.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`, and the probabilities of each class, or `MAP_COLUMNS`, or `TARGET_COLUMNS`, with truth and answer of
        each label or value; one row per image, by hash.

    Raises
    ------
    ArtifactError
        If the predictions lack the network or its baseline, or an image of them is not in the manifest.
    """
    reference, form = network_name(None, protocol), form_of(predictions)
    if form in ("labels", "values"):
        answers, dense = _targets(predictions, network, reference, form)
    elif form == "maps":
        answers = network_rows(predictions, network)[["path", score]].set_axis(["path", "value"], axis=1)
        dense = network_rows(predictions, reference)[["path", score]].set_axis(["path", "dense_value"], axis=1)
    else:
        own = predictions_of(predictions, network)
        answers = own[["path", "label", "predicted"]].join(_chances(own, CHANCE))
        other = predictions_of(predictions, reference)
        dense = other[["path", "predicted"]].set_axis(["path", "dense"], axis=1).join(_chances(other, DENSE_CHANCE))
    found = answers.merge(dense, on="path", validate="one_to_one").merge(
        manifest[["path", "sha256", "group"]], on="path", how="left", validate="one_to_one"
    )
    if found.empty or found["sha256"].isna().any():
        raise ArtifactError("the predictions and the manifest are of different data; run `dvc repro`.")
    found["copy"] = found.sort_values("path").groupby("sha256").cumcount()
    if form in ("labels", "values"):
        kept = [*TARGET_COLUMNS, *(name for name in map(str, found) if name.startswith(_OF_TARGETS))]
        return found.astype({"group": "int64"})[kept].sort_values(IMAGE, ignore_index=True)
    if form == "maps":
        return found.astype({"group": "int64"})[list(MAP_COLUMNS)].sort_values(IMAGE, ignore_index=True)
    kept = [*COLUMNS, *(name for name in map(str, found) if name.startswith((CHANCE, DENSE_CHANCE)))]
    return found.astype({"group": "int64"})[kept].sort_values(IMAGE, ignore_index=True)


_OF_TARGETS = (TRUTH, CHANCE, DENSE_CHANCE, NUMBER, DENSE_NUMBER)


def _targets(
    predictions: pd.DataFrame, network: str, reference: str, form: Form
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Truth and answers of a network, and the answers of its dense one: probabilities of labels, or values."""
    own, other = (network_rows(predictions, name) for name in (network, reference))
    names = [name.removeprefix(TRUTH) for name in map(str, own) if name.startswith(TRUTH)]
    column, kept = (LABEL_LOGIT, (CHANCE, DENSE_CHANCE)) if form == "labels" else (VALUE, (NUMBER, DENSE_NUMBER))
    frames = []
    for rows, prefix in ((own, kept[0]), (other, kept[1])):
        numbers = numbers_of(rows, column, names).astype(np.float64)
        given = pd.DataFrame(expit(numbers) if form == "labels" else numbers, columns=[f"{prefix}{n}" for n in names])
        frames.append(rows[["path"]].join(given))
    return frames[0].join(own[[f"{TRUTH}{name}" for name in names]]), frames[1]


def _chances(rows: pd.DataFrame, prefix: str) -> pd.DataFrame:
    found = softmax(logits_of(rows).astype(np.float64), axis=1)
    return pd.DataFrame(found, columns=[f"{prefix}{name}" for name in classes_of(rows)], index=rows.index)


def read_evidence(path: Path) -> pd.DataFrame:
    """Read the evidence kept with a version.

    Parameters
    ----------
    path : Path
        A CSV of `evidence_frame`.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`, and what else was kept.

    Raises
    ------
    ArtifactError
        If it is no such table.
    """
    try:
        types = {name: "int64" if name in _NUMBERS else "str" for name in COLUMNS}
        numbers = {name: [""] for name in ("value", "dense_value")}  # elsewhere a class may be called None or NA
        frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=numbers)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is not the evidence of a version ({error}); register the model again.") from error
    of_targets = set(TARGET_COLUMNS) <= set(frame) and any(name.startswith(TRUTH) for name in map(str, frame))
    is_whole = of_targets or set(COLUMNS) <= set(frame) or set(MAP_COLUMNS) <= set(frame)
    if not is_whole or frame.empty or frame[IMAGE].duplicated().any():
        raise ArtifactError(f"{path} is not the evidence of a version; register the model again.")
    return frame
