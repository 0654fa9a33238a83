"""The tables that checks run on, made from a manifest: a ``path`` that names each row, and what is checked.

The split columns of the manifest may be absent, but for `split_table` and `stratum_table`.
"""

from __future__ import annotations

import pandas as pd

from hscc.pipeline.data.classes import CLASSES, OFFICIAL_SPLITS, PROTOCOLS

ACTIVE_SPLITS = ("train", "val", "test")


def image_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Describe each file for the checks that need no split.

    Returns
    -------
    pandas.DataFrame
        One row per file: path, path_ignoring_case, folder, label, decodable, width, height, mode (the
        last three missing where it cannot be decoded), copy_of (path of the first file with the same bytes, or
        missing), copied_from_training, near_copies (others in its group), near_copy_in_training
        (these two are for Testing files), contradicting_labels.
    """
    decodable = frame["decodable"]
    first = frame.groupby("sha256")["path"].transform("first")
    testing = frame["official_split"] == "Testing"
    training = frame["official_split"] == "Training"
    return pd.DataFrame(
        {
            "path": frame["path"],
            "path_ignoring_case": frame["path"].str.casefold(),
            "folder": frame["official_split"],
            "label": frame["label"],
            "decodable": decodable,
            "width": frame["width"].where(decodable),
            "height": frame["height"].where(decodable),
            "mode": frame["mode"].where(decodable),
            "copy_of": first.where(first != frame["path"]),
            "copied_from_training": testing & frame["sha256"].isin(frame.loc[training, "sha256"]),
            "near_copies": frame.groupby("group")["path"].transform("size") - 1,
            "near_copy_in_training": testing & frame["group"].isin(frame.loc[training, "group"]),
            "contradicting_labels": frame["conflict"],
        }
    )


def folder_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the decodable images of every class folder there should be.

    Returns
    -------
    pandas.DataFrame
        One row per folder: path (such as Training/no_tumor) and images.
    """
    decodable = frame[frame["decodable"]]
    held = (decodable["official_split"] + "/" + decodable["label"]).value_counts()
    paths = [f"{folder}/{label}" for folder in OFFICIAL_SPLITS for label in CLASSES]
    return pd.DataFrame({"path": paths, "images": [int(held.get(path, 0)) for path in paths]})


def class_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the decodable images of every class.

    Returns
    -------
    pandas.DataFrame
        One row per class: path (the class name), images, and imbalance (images of the largest class
        over its own; infinite for a class without images).
    """
    held = frame.loc[frame["decodable"], "label"].value_counts()
    images = pd.Series([int(held.get(label, 0)) for label in CLASSES], dtype=float)
    imbalance = images.max() / images.where(images > 0)
    return pd.DataFrame(
        {"path": CLASSES, "images": images.astype("int64"), "imbalance": imbalance.fillna(float("inf"))}
    )


def split_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Describe each image for the checks on the splits.

    Returns
    -------
    pandas.DataFrame
        One row per image: path, splits_of_group_grouped and splits_of_group_official (how many of train, val and
        test its group touches), and near_copy_in_train (for test images of the pooled protocol).
    """
    pooled = frame["split_pooled"]
    return pd.DataFrame(
        {
            "path": frame["path"],
            "splits_of_group_grouped": _splits_of_group(frame, "split_grouped"),
            "splits_of_group_official": _splits_of_group(frame, "split_official"),
            "near_copy_in_train": (pooled == "test") & frame["group"].isin(frame.loc[pooled == "train", "group"]),
        }
    )


def stratum_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Count the images of every class in every split of every protocol.

    Returns
    -------
    pandas.DataFrame
        One row per stratum: path (such as official/test/no_tumor) and images.
    """
    rows = [
        (f"{protocol}/{split}/{label}", int(((frame[f"split_{protocol}"] == split) & (frame["label"] == label)).sum()))
        for protocol in PROTOCOLS
        for split in ACTIVE_SPLITS
        for label in CLASSES
    ]
    return pd.DataFrame(rows, columns=["path", "images"])


def _splits_of_group(frame: pd.DataFrame, column: str) -> pd.Series[int]:
    used = frame[column].where(frame[column].isin(ACTIVE_SPLITS))
    return used.groupby(frame["group"]).transform("nunique")
