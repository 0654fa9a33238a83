"""The three ways to split the images into train, val and test.

``grouped``
    Whole groups (near-copies, images of one patient) are assigned, class by class. Nothing like a test image is in
    training.
``pooled``
    Images are drawn at random, stratified by class: the protocol of most papers on this data set.
    Near-copies may fall on both sides, so its figures are too good.
``official``
    The data set's own test images, less contradicting groups and files with a byte-identical copy among its training
    images, are the test split. Training images of a group that occurs in the test split are excluded, and the rest is
    divided into train and val as in ``grouped``, unless the data set has validation images of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from hscc.errors import DataError
from hscc.pipeline.data.targets import strata_of
from hscc.pipeline.data_spec import DataSpec, OfficialSplit

EXCLUDED = "excluded"


def assign_splits(frame: pd.DataFrame, spec: DataSpec) -> pd.DataFrame:
    """Add the split of every image under every protocol; where it says class, an image of several labels has one.

    See `hscc.pipeline.data.targets.strata_of`.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per image: label, official_split, sha256, decodable, group, conflict.
    spec : DataSpec
        Classes, official split, shares of the images and seed.

    Returns
    -------
    pandas.DataFrame
        A copy with split_grouped, split_pooled and split_official: train, val, test or excluded.
        Images that cannot be decoded or whose class is unknown are always excluded; images of groups
        with contradicting labels are excluded from grouped and official. `official_split` says which
        others official excludes; without an official split it excludes all.

    Raises
    ------
    DataError
        If a class has too few images for a stratified draw.
    """
    counted = frame.assign(label=strata_of(frame, spec))
    usable = frame["decodable"].to_numpy(dtype=bool) & counted["label"].isin(spec.strata).to_numpy(dtype=bool)
    agreed = usable & ~frame["conflict"].to_numpy(dtype=bool)
    settings = (spec.train_fraction, spec.val_fraction, spec.seed, spec.strata)
    return frame.assign(
        split_grouped=grouped_split(counted, agreed, *settings),
        split_pooled=pooled_split(counted, usable, *settings),
        split_official=official_split(counted, agreed, *settings, spec.official) if spec.official else EXCLUDED,
    )


def grouped_split(
    frame: pd.DataFrame,
    mask: NDArray[np.bool_],
    train_fraction: float,
    val_fraction: float,
    seed: int,
    classes: Sequence[str],
) -> NDArray[np.str_]:
    """Split whole groups, stratified by class, in the order of their size.

    Takes the columns label and group. A group of several classes within the mask, (N,) bool, is counted as one of its
    rarest.

    Returns
    -------
    numpy.ndarray
        (N,) str: train, val, test, or excluded outside the mask.
    """
    shares = {"train": train_fraction, "val": val_fraction, "test": 1 - train_fraction - val_fraction}
    return _fill_by_class(frame, mask, shares, seed, classes)


def official_split(
    frame: pd.DataFrame,
    mask: NDArray[np.bool_],
    train_fraction: float,
    val_fraction: float,
    seed: int,
    classes: Sequence[str],
    official: OfficialSplit,
) -> NDArray[np.str_]:
    """Keep the data set's own test images, and take what belongs with them out of its training images.

    In the brain MRI set nearly every test image of some classes has a near-copy in training. If all of these were left
    out, those classes could not be tested; so testing loses byte-identical copies only, and training the groups of what
    is left. Of the fractions only the ratio counts: it divides what is left of training, where there are no validation
    images. Groups of those are taken out of training likewise, and out of validation those of the test split.

    Takes the columns label, official_split, sha256 and group; byte-identical files are of one group.

    Returns
    -------
    numpy.ndarray
        (N,) str: train, val, test, or excluded: outside the mask, (N,) bool, a test file that is byte-identical
        to a training file, or an image of training or validation whose group occurs in a later split.
    """
    place = frame["official_split"]
    training = (place == official.train).to_numpy(dtype=bool)
    testing = (place == official.test).to_numpy(dtype=bool)
    leaked = frame["sha256"].isin(frame.loc[training, "sha256"]).to_numpy(dtype=bool)
    test = mask & testing & ~leaked
    tested = frame["group"].isin(frame.loc[test, "group"]).to_numpy(dtype=bool)
    both = train_fraction + val_fraction
    if official.val is None:
        shares = {"train": train_fraction / both, "val": val_fraction / both}
        split = _fill_by_class(frame, mask & training & ~tested, shares, seed, classes)
    else:
        split = np.full(len(frame), EXCLUDED, dtype="<U8")
        val = mask & (place == official.val).to_numpy(dtype=bool) & ~tested
        validated = frame["group"].isin(frame.loc[val, "group"]).to_numpy(dtype=bool)
        split[mask & training & ~tested & ~validated] = "train"
        split[val] = "val"
    split[test] = "test"
    return split


def pooled_split(
    frame: pd.DataFrame,
    mask: NDArray[np.bool_],
    train_fraction: float,
    val_fraction: float,
    seed: int,
    classes: Sequence[str],
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
        counts = {name: int((labels[rows] == name).sum()) for name in classes}
        fewest = min(counts, key=lambda name: counts[name])
        raise DataError(
            f"the data folder has too few images for a stratified split (smallest class: {fewest} with "
            f"{counts[fewest]}); add images or change data.train_fraction and data.val_fraction in params.yaml."
        ) from error
    split[train], split[val], split[test] = "train", "val", "test"
    return split


def _fill_by_class(
    frame: pd.DataFrame, mask: NDArray[np.bool_], shares: dict[str, float], seed: int, classes: Sequence[str]
) -> NDArray[np.str_]:
    """Fill the splits class by class.

    A group of near-copies has one label, so stratifying splits into one small problem per class, solved to within an
    image or two; a patient with several is counted as the rarest of them, whose shares matter most. scikit-learn's
    StratifiedGroupKFold knows only equal folds: 70/15/15 would take twenty of them, and its class shares drift by
    several images.
    """
    split = np.full(len(frame), EXCLUDED, dtype="<U8")
    groups = frame["group"].to_numpy(dtype=np.int64)
    labels = frame["label"].to_numpy(dtype=str)
    strata = _strata(groups, labels, mask, classes)
    for position in range(len(classes)):
        rows = np.flatnonzero(mask & (strata == position))
        chosen = _fill(groups[rows], shares, np.random.default_rng([seed, position]))
        split[rows] = [chosen[group] for group in groups[rows].tolist()]
    return split


def _strata(
    groups: NDArray[np.int64], labels: NDArray[np.str_], mask: NDArray[np.bool_], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Position of the class that each image within the mask is counted as: the rarest one of its group."""
    counts = {name: int((labels[mask] == name).sum()) for name in classes}
    rarest_first = sorted(range(len(classes)), key=lambda position: (counts[classes[position]], position))
    strata = np.full(len(labels), -1, dtype=np.int64)
    for position in reversed(rarest_first):
        of_class = groups[mask & (labels == classes[position])]
        strata[mask & np.isin(groups, of_class)] = position
    return strata


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
