"""Run the deployed ONNX file, and nothing else, on images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from hscc.data.images import to_input
from hscc.errors import ArtifactError
from hscc.measuring.sessions import open_session

CHUNK = 64  # images a call; bounds the memory


def run_session(session: onnxruntime.InferenceSession, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Give the logits, shape (N, C), of network inputs, shape (N, 3, S, S)."""
    (logits,) = session.run(None, {session.get_inputs()[0].name: inputs})
    return np.asarray(logits, dtype=np.float32)


def as_input(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Turn grey images, shape (N, S, S), into a network's input, shape (N, 3, S, S)."""
    inputs: npt.NDArray[np.float32] = to_input(images).numpy()
    return inputs


def predict(
    path: Path, threads: int, images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Give a network's logits for some of the images.

    Parameters
    ----------
    path : Path
        The ONNX file.
    threads : int
        Threads inside an operator.
    images : ndarray of uint8, shape (M, S, S)
        Grey images; may be a memory map.
    rows : ndarray of int64, shape (N,)
        Which of them.

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
    side = session.get_inputs()[0].shape[-1]
    if side != images.shape[-1]:
        raise ArtifactError(
            f"{path} takes images of {side} pixels a side but data.image_size is {images.shape[-1]}; run `dvc repro` "
            "so that every network is made for this size."
        )
    chunks = (images[rows[start : start + CHUNK]] for start in range(0, len(rows), CHUNK))
    logits = np.concatenate([run_session(session, as_input(np.asarray(chunk))) for chunk in chunks])
    if not np.isfinite(logits).all():
        raise ArtifactError(f"{path} puts out values that are not finite; delete it and run `dvc repro` again.")
    return logits
