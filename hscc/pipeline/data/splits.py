"""The three ways to split the images into train, val and test.

``grouped``
    Whole groups of near-copies are assigned, class by class. Nothing like a test image is in training.
``pooled``
    Images are drawn at random, stratified by class: the protocol of most papers on this data set.
    Near-copies may fall on both sides, so its figures are too good.
``official``
    The Testing folder, less contradicting groups and files with a byte-identical copy in Training, is the
    test split. Near-copies are removed from Training: its images of a group that occurs in the test split
    are excluded, and the rest is divided into train and val as in ``grouped``.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from hscc.errors import DataError
from hscc.pipeline.data.classes import CLASSES

EXCLUDED = "excluded"


def assign_splits(frame: pd.DataFrame, train_fraction: float, val_fraction: float, seed: int) -> pd.DataFrame:
    """Add the split of every image under every protocol.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per image: label, official_split, sha256, decodable, group, conflict.
    train_fraction, val_fraction : float
        Shares of the images, in (0, 1), with a sum below 1; the rest is the test split.
    seed : int
        Of all three splits.

    Returns
    -------
    pandas.DataFrame
        A copy with split_grouped, split_pooled and split_official: train, val, test or excluded.
        Images that cannot be decoded or whose class is unknown are always excluded; images of groups
        with contradicting labels are excluded from grouped and official. `official_split` says which
        others official excludes.

    Raises
    ------
    DataError
        If a class has too few images for a stratified draw.
    """
    usable = frame["decodable"].to_numpy(dtype=bool) & frame["label"].isin(CLASSES).to_numpy(dtype=bool)
    agreed = usable & ~frame["conflict"].to_numpy(dtype=bool)
    return frame.assign(
        split_grouped=grouped_split(frame, agreed, train_fraction, val_fraction, seed),
        split_pooled=pooled_split(frame, usable, train_fraction, val_fraction, seed),
        split_official=official_split(frame, agreed, train_fraction, val_fraction, seed),
    )


def grouped_split(
    frame: pd.DataFrame, mask: NDArray[np.bool_], train_fraction: float, val_fraction: float, seed: int
) -> NDArray[np.str_]:
    """Split whole groups, stratified by class, in the order of their size.

    Takes the columns label and group; each group within the mask, (N,) bool, holds one label.

    Returns
    -------
    numpy.ndarray
        (N,) str: train, val, test, or excluded outside the mask.
    """
    shares = {"train": train_fraction, "val": val_fraction, "test": 1 - train_fraction - val_fraction}
    return _fill_by_class(frame, mask, shares, seed)


def official_split(
    frame: pd.DataFrame, mask: NDArray[np.bool_], train_fraction: float, val_fraction: float, seed: int
) -> NDArray[np.str_]:
    """Keep the data set's own test folder, and take its near-copies out of the training folder.

    Nearly every Testing image of some classes has a near-copy in Training. If all of these were left out of Testing,
    those classes could not be tested; so Testing loses byte-identical copies only, and Training the near-copies of
    what is left. Of the fractions only the ratio counts: it divides what is left of Training.

    Takes the columns label, official_split, sha256 and group; byte-identical files are of one group, and each group
    within the mask, (N,) bool, holds one label.

    Returns
    -------
    numpy.ndarray
        (N,) str: train, val, test, or excluded: outside the mask, a Testing file that is byte-identical
        to a Training file, or a Training image whose group occurs in the test split.
    """
    training = (frame["official_split"] == "Training").to_numpy(dtype=bool)
    testing = (frame["official_split"] == "Testing").to_numpy(dtype=bool)
    leaked = frame["sha256"].isin(frame.loc[training, "sha256"]).to_numpy(dtype=bool)
    test = mask & testing & ~leaked
    tested = frame["group"].isin(frame.loc[test, "group"]).to_numpy(dtype=bool)
    both = train_fraction + val_fraction
    shares = {"train": train_fraction / both, "val": val_fraction / both}
    split = _fill_by_class(frame, mask & training & ~tested, shares, seed)
    split[test] = "test"
    return split


def pooled_split(
    frame: pd.DataFrame, mask: NDArray[np.bool_], train_fraction: float, val_fraction: float, seed: int
) -> NDArray[np.str_]:
    """Draw images at random, stratified by class (column label), near-copies or not.

    Val and test are rounded up, as scikit-learn does (15 % of 3,264 is 490).

    Returns
    -------
    numpy.ndarray
        (N,) str: train, val, test, or excluded outside the mask, (N,) bool.

    Raises
    ------
    DataError
        If a class has too few images for a stratified draw.
    """
    split = np.full(len(frame), EXCLUDED, dtype="<U8")
    rows = np.flatnonzero(mask)
    labels = frame["label"].to_numpy(dtype=str)
    test_size = _round_up(len(rows) * (1 - train_fraction - val_fraction))
    val_size = _round_up(len(rows) * val_fraction)
    try:
        rest, test = train_test_split(rows, test_size=test_size, stratify=labels[rows], random_state=seed)
        train, val = train_test_split(rest, test_size=val_size, stratify=labels[rest], random_state=seed)
    except ValueError as error:
        counts = {name: int((labels[rows] == name).sum()) for name in CLASSES}
        fewest = min(counts, key=lambda name: counts[name])
        raise DataError(
            f"the data folder has too few images for a stratified split (smallest class: {fewest} with "
            f"{counts[fewest]}); add images or change data.train_fraction and data.val_fraction in params.yaml."
        ) from error
    split[train], split[val], split[test] = "train", "val", "test"
    return split


def _fill_by_class(
    frame: pd.DataFrame, mask: NDArray[np.bool_], shares: dict[str, float], seed: int
) -> NDArray[np.str_]:
    """Fill the splits class by class.

    Without contradicting groups a group has one label, so stratifying splits into one small problem per class,
    solved to within an image or two. scikit-learn's StratifiedGroupKFold knows only equal folds:
    70/15/15 would take twenty of them, and its class shares drift by several images.
    """
    split = np.full(len(frame), EXCLUDED, dtype="<U8")
    groups = frame["group"].to_numpy(dtype=np.int64)
    labels = frame["label"].to_numpy(dtype=str)
    for position, name in enumerate(CLASSES):
        rows = np.flatnonzero(mask & (labels == name))
        chosen = _fill(groups[rows], shares, np.random.default_rng([seed, position]))
        split[rows] = [chosen[group] for group in groups[rows].tolist()]
    return split


def _fill(groups: NDArray[np.int64], shares: dict[str, float], rng: np.random.Generator) -> dict[int, str]:
    """Give each group, largest first, to the split that is least full for its share.

    Fullness is relative, so that every size of group, not only the singletons that come last, is
    spread in the same proportions and the test split is no easier or harder than training.
    """
    unique, sizes = np.unique(groups, return_counts=True)
    shuffled = rng.permutation(len(unique))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    held = dict.fromkeys(shares, 0)
    chosen: dict[int, str] = {}
    for index in order.tolist():
        emptiest = min(shares, key=lambda name: held[name] / shares[name])
        held[emptiest] += int(sizes[index])
        chosen[int(unique[index])] = emptiest
    return chosen


def _round_up(size: float) -> int:
    """Round up, but not for the last bits of a float: 100 * (1 - 0.7 - 0.15) is 15, not 16."""
    return math.ceil(round(size, 6))
