"""Logits of deployed ONNX files on the test images, and the table that keeps them."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd

from hscc.errors import ArtifactError
from hscc.networks.normalisation import IMAGENET, Normalisation
from hscc.pipeline.artifacts import Network
from hscc.timing.sessions import open_session
from hscc.training.images import to_input

CHUNK = 64  # images per call; bounds the memory


def run_session(session: onnxruntime.InferenceSession, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Give the logits, shape (N, C), of network inputs, shape (N, channels, ...)."""
    (logits,) = session.run(None, {session.get_inputs()[0].name: inputs})
    return np.asarray(logits, dtype=np.float32)


def as_input(images: npt.NDArray[np.uint8], normalisation: Normalisation = IMAGENET) -> npt.NDArray[np.float32]:
    """Turn images into a network's input, see `hscc.training.images.to_input`."""
    inputs: npt.NDArray[np.float32] = to_input(images, normalisation).numpy()
    return inputs


def run_images(
    session: onnxruntime.InferenceSession,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    normalisation: Normalisation = IMAGENET,
) -> npt.NDArray[np.float32]:
    """Give the logits, shape (N, C), of some of the images, in the order of `rows`, a few at a time."""
    chunks = (images[rows[start : start + CHUNK]] for start in range(0, len(rows), CHUNK))
    return np.concatenate([run_session(session, as_input(np.asarray(chunk), normalisation)) for chunk in chunks])


def predict(
    path: Path,
    threads: int,
    images: npt.NDArray[np.uint8],
    rows: npt.NDArray[np.int64],
    normalisation: Normalisation = IMAGENET,
) -> npt.NDArray[np.float32]:
    """Give a network's logits for some of the images.

    Parameters
    ----------
    path : Path
        The ONNX file.
    threads : int
        Threads inside an operator.
    images : ndarray of uint8, shape (M, H, W), (M, H, W, 3) or (M, D, H, W)
        May be a memory map.
    rows : ndarray of int64, shape (N,)
        Which of them.
    normalisation : Normalisation
        Of the network's inputs.

    Returns
    -------
    ndarray of float32, shape (N, C)
        Logits in the order of `rows`.

    Raises
    ------
    ArtifactError
        If the file cannot be opened, takes images of another size, or puts out values that are not finite.
    """
    session = open_session(path, threads)
    taken, given = session.get_inputs()[0].shape[1:], list(as_input(np.array(images[:1]), normalisation).shape[1:])
    if taken != given:
        raise ArtifactError(
            f"{path} takes inputs of {_by(taken)} (channels first) but section data of params.yaml gives {_by(given)}; "
            "run `dvc repro` so that every network is made for these images."
        )
    logits = run_images(session, images, rows, normalisation)
    if not np.isfinite(logits).all():
        raise ArtifactError(f"{path} puts out values that are not finite; delete it and run `dvc repro` again.")
    return logits


def _by(shape: Sequence[object]) -> str:
    return " x ".join(map(str, shape))


IMAGE = ("path", "protocol", "label", "group")
NETWORK = "network"
LOGIT = "logit_"
PIXELS = "pixels_"  # before a true and a predicted class, with a bar between them: of a segmentation

LABEL_LOGIT, VALUE = "label_logit_", "value_"  # before a label or value: what a network answered
TRUTH = "true_"  # likewise: what the table says

Logits = npt.NDArray[np.float32]
Form = Literal["classes", "maps", "labels", "values"]
_FORMS: dict[str, Form] = {LOGIT: "classes", PIXELS: "maps", LABEL_LOGIT: "labels", VALUE: "values"}


def predictions_frame(
    images: Mapping[str, pd.DataFrame], logits: Mapping[Network, Logits], classes: tuple[str, ...]
) -> pd.DataFrame:
    """Tabulate logits, one row per image and network.

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
        logit_columns = pd.DataFrame(values, columns=[f"{LOGIT}{name}" for name in classes], index=rows.index)
        images_of_protocol = rows[["path"]].assign(
            protocol=network.protocol, label=rows["label"], group=rows["group"], network=network.name
        )
        parts.append(pd.concat([images_of_protocol, logit_columns], axis=1))
    return pd.concat(parts, ignore_index=True)


def target_frame(
    images: Mapping[str, pd.DataFrame],
    truth: Mapping[str, npt.NDArray[np.float32]],
    answers: Mapping[Network, Logits],
    names: Sequence[str],
    column: str,
) -> pd.DataFrame:
    """Tabulate answers of several numbers, one row per image and network.

    Parameters
    ----------
    images : mapping of str to pandas.DataFrame
        As for `predictions_frame`.
    truth : mapping of str to ndarray of float32, shape (N, K)
        By protocol, what each should be.
    answers : mapping of Network to ndarray of float32, shape (N, K)
        For each of its protocol's test images.
    names : sequence of str
        Of the K numbers.
    column : str
        `LABEL_LOGIT` or `VALUE`.

    Returns
    -------
    pandas.DataFrame
        ``path``, ``protocol``, ``label``, ``group``, ``network``, ``true_<name>`` and ``<column><name>`` in float32.
    """
    parts = []
    for network, values in answers.items():
        rows = images[network.protocol]
        known = rows[["path"]].assign(
            protocol=network.protocol, label=rows["label"], group=rows["group"], network=network.name
        )
        numbers = [
            pd.DataFrame(found, columns=[f"{prefix}{name}" for name in names], index=rows.index)
            for prefix, found in ((TRUTH, truth[network.protocol]), (column, values))
        ]
        parts.append(pd.concat([known, *numbers], axis=1))
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
    if not {*IMAGE, NETWORK}.issubset(frame) or not any(name.startswith(tuple(_FORMS)) for name in frame.columns):
        raise ArtifactError(f"{path} is not a table of predictions of this version; run `hscc evaluate` again.")
    return frame


def classes_of(frame: pd.DataFrame) -> tuple[str, ...]:
    """Class names in the order of the logits."""
    return tuple(name.removeprefix(LOGIT) for name in frame.columns if name.startswith(LOGIT))


def predictions_of(frame: pd.DataFrame, network: str) -> pd.DataFrame:
    """Take the rows of one network, one per test image of its protocol, with the class it ``predicted``.

    Raises
    ------
    ArtifactError
        If the network is not in the table.
    """
    found = network_rows(frame, network)
    return found.assign(predicted=np.asarray(classes_of(frame))[logits_of(found).argmax(axis=1)])


def network_rows(frame: pd.DataFrame, network: str) -> pd.DataFrame:
    """Take the rows of one network, one per test image of its protocol.

    Raises
    ------
    ArtifactError
        If the network is not in the table.
    """
    found = frame[frame[NETWORK] == network].reset_index(drop=True)
    if found.empty:
        raise ArtifactError(f"the predictions lack the network {network}; run `hscc evaluate` again.")
    return found


def form_of(frame: pd.DataFrame) -> Form:
    """What the table has of each image: logits of classes, counts of pixels, logits of labels, or values."""
    return next(form for prefix, form in _FORMS.items() if any(name.startswith(prefix) for name in frame.columns))


def numbers_of(rows: pd.DataFrame, prefix: str, names: Sequence[str]) -> npt.NDArray[np.float32]:
    """Numbers of some rows of `target_frame`, shape (N, K)."""
    return rows[[f"{prefix}{name}" for name in names]].to_numpy(np.float32)


def pixel_confusion(rows: pd.DataFrame, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Pixels of some rows together by true class and predicted class, shape (C, C)."""
    counts = [[int(rows[f"{PIXELS}{true}|{given}"].sum()) for given in classes] for true in classes]
    return np.asarray(counts, dtype=np.int64)


def logits_of(rows: pd.DataFrame) -> Logits:
    """Logits of some rows, shape (N, C)."""
    return rows[[f"{LOGIT}{name}" for name in classes_of(rows)]].to_numpy(np.float32)
