"""Images and labels as training, calibration and evaluation take them, by the data spec or a network's card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from hscc.networks.normalisation import Normalisation
from hscc.networks.storage import ModelCard
from hscc.pipeline import layout
from hscc.pipeline.data.formats.levels import Levels
from hscc.pipeline.data.images import labels_of, load_images, rows_of
from hscc.pipeline.data_spec import DataSpec
from hscc.training.augmentation import Augmentation
from hscc.training.images import Split


def normalisation_of(spec: DataSpec) -> Normalisation:
    """Mean and standard deviation of a data spec."""
    return Normalisation(spec.normalisation.mean, spec.normalisation.std)


def augmentation_of(spec: DataSpec) -> Augmentation:
    """Random views of a data spec."""
    return Augmentation(**spec.augmentation.model_dump())


def read_images(manifest: pd.DataFrame, source: DataSpec | ModelCard, workspace: Path) -> Levels:
    """Decode all images as a data spec says or a network takes them.

    Returns
    -------
    ndarray of uint8, shape (N, H, W), (N, H, W, 3) or (N, D, H, W)
        See `hscc.pipeline.data.images.load_images`.
    """
    cache = workspace / layout.IMAGE_CACHE
    return load_images(manifest, workspace / layout.DATA, source.sides, cache, source.channels, source.window)


def read_splits(manifest: pd.DataFrame, card: ModelCard, protocol: str, workspace: Path) -> tuple[Split, Split]:
    """Return the training and the validation split of a protocol.

    Parameters
    ----------
    manifest : DataFrame
        See `hscc.pipeline.data.manifest.read_manifest`.
    card : ModelCard
        Of the network that takes the images: size, channels, normalisation and classes.
    protocol : str
        Split protocol.
    workspace : Path
        Folder of ``dvc.yaml``.
    """
    images, labels = read_images(manifest, card, workspace), labels_of(manifest, card.classes)
    train, val = (rows_of(manifest, protocol, split) for split in ("train", "val"))
    return (
        Split(images, train, labels[train], card.normalisation),
        Split(images, val, labels[val], card.normalisation),
    )


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


def random_sample(images: int, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw positions without replacement, all where there are fewer; ascending."""
    return np.sort(np.random.default_rng(seed).permutation(images)[:count])
