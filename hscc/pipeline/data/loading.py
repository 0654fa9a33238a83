"""Images and labels of a split, as training and calibration take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.pipeline import layout
from hscc.pipeline.data.images import labels_of, load_images, rows_of
from hscc.training.images import Split


def read_splits(manifest: pd.DataFrame, image_size: int, protocol: str, workspace: Path) -> tuple[Split, Split]:
    """Return the training and the validation split of a protocol.

    Parameters
    ----------
    manifest : DataFrame
        See `hscc.pipeline.data.manifest.read_manifest`.
    image_size : int
        Pixels per side after resizing.
    protocol : str
        Split protocol.
    workspace : Path
        Folder of ``dvc.yaml``.
    """
    images = load_images(manifest, workspace / layout.DATA, image_size, workspace / layout.IMAGE_CACHE)
    labels = labels_of(manifest)
    train, val = (rows_of(manifest, protocol, split) for split in ("train", "val"))
    return Split(images, train, labels[train]), Split(images, val, labels[val])


def balanced_sample(labels: npt.NDArray[np.int64], count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw positions with nearly equal numbers of each class, or all where there are fewer.

    Returns
    -------
    ndarray of int64
        Ascending; at most `count` of them.
    """
    rng = np.random.default_rng(seed)
    queues = [list(rng.permutation(np.flatnonzero(labels == label))) for label in np.unique(labels)]
    chosen: list[int] = []
    while len(chosen) < count and any(queues):
        for queue in queues:
            if queue and len(chosen) < count:
                chosen.append(int(queue.pop()))
    return np.sort(np.asarray(chosen, dtype=np.int64))
