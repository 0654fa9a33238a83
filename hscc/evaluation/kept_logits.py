"""What every network put out for every test image, kept so that any score can be computed again."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.errors import ArtifactError
from hscc.evaluation.networks import Network

IMAGE = ("path", "protocol", "label", "group")
NETWORK = "network"
LOGIT = "logit_"

Logits = npt.NDArray[np.float32]


def predictions_frame(
    images: Mapping[str, pd.DataFrame], logits: Mapping[Network, Logits], classes: tuple[str, ...]
) -> pd.DataFrame:
    """Tabulate logits, a row an image and network.

    Parameters
    ----------
    images : mapping of str to pandas.DataFrame
        By protocol, the N test rows of the manifest (``path``, ``label``, ``group``).
    logits : mapping of Network to ndarray of float32, shape (N, C)
        For each of its protocol's test images.
    classes : tuple of str
        The C class names.

    Returns
    -------
    pandas.DataFrame
        ``path``, ``protocol``, ``label``, ``group`` (of near-copies), ``network``, and ``logit_<class>`` in float32.
    """
    parts = []
    for network, values in logits.items():
        rows = images[network.protocol]
        told = pd.DataFrame(values, columns=[f"{LOGIT}{name}" for name in classes], index=rows.index)
        asked = rows[["path"]].assign(
            protocol=network.protocol, label=rows["label"], group=rows["group"], network=network.name
        )
        parts.append(pd.concat([asked, told], axis=1))
    return pd.concat(parts, ignore_index=True)


def to_parquet(frame: pd.DataFrame) -> bytes:
    """Write a table as Parquet; the same table gives the same bytes."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def read_predictions(path: Path) -> pd.DataFrame:
    """Read the table of logits.

    Parameters
    ----------
    path : Path
        ``reports/predictions.parquet``.

    Returns
    -------
    pandas.DataFrame
        As `predictions_frame` made it.

    Raises
    ------
    ArtifactError
        If it is missing or is no such table.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `hscc evaluate`, or `dvc repro`.")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these kinds
        raise ArtifactError(f"{path} is not a Parquet table; run `hscc evaluate` again.") from error
    if not {*IMAGE, NETWORK}.issubset(frame) or not classes_of(frame):
        raise ArtifactError(f"{path} is not a table of predictions of this version; run `hscc evaluate` again.")
    return frame


def classes_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Class names in the order of the logits."""
    return tuple(name.removeprefix(LOGIT) for name in frame.columns if name.startswith(LOGIT))


def predictions_of(frame: pd.DataFrame, network: str) -> pd.DataFrame:
    """Take the rows of one network, a row a test image of its protocol, with the class it ``predicted``.

    Raises
    ------
    ArtifactError
        If the network is not in the table.
    """
    found = frame[frame[NETWORK] == network].reset_index(drop=True)
    if found.empty:
        raise ArtifactError(f"the predictions lack the network {network}; run `hscc evaluate` again.")
    return found.assign(predicted=np.asarray(classes_of(frame))[logits_of(found).argmax(axis=1)])


def logits_of(rows: pd.DataFrame) -> Logits:
    """Logits of some rows, shape (N, C)."""
    return rows[[f"{LOGIT}{name}" for name in classes_of(rows)]].to_numpy(np.float32)
