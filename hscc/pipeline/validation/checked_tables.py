"""The tables that checks run on, made from a manifest: a ``path`` that names each row, and what is checked.

The split columns of the manifest may be absent, but for `split_table` and `stratum_table`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from hscc.pipeline.data.listing import SUBJECT
from hscc.pipeline.data.manifest import DEPTH
from hscc.pipeline.data.targets import has_label, strata_of
from hscc.pipeline.data_spec import DataSpec

ACTIVE_SPLITS = ("train", "val", "test")


def image_table(frame: pd.DataFrame, spec: DataSpec) -> pd.DataFrame:
    """Describe each file for the checks that need no split.

    Returns
    -------
    pandas.DataFrame
        One row per file: path, path_ignoring_case, folder, label, decodable, width, height, mode (the
        last three missing where it cannot be decoded), copy_of (path of the first file with the same bytes, or
        missing), copied_from_training, near_copies (how many others there are), near_copy_in_training,
        group_in_training (these are for images of the official test split), contradicting_labels. Of volumes also
        complete, volume and finite (see `hscc.pipeline.data.manifest.ImageFacts`), depth and of_commonest_depth.
    """
    decodable = frame["decodable"]
    first = frame.groupby("sha256")["path"].transform("first")
    official = spec.official
    testing, training = (
        frame["official_split"] == (getattr(official, part) if official else None) for part in ("test", "train")
    )
    return pd.DataFrame(
        {
            "path": frame["path"],
            "path_ignoring_case": frame["path"].str.casefold(),
            "folder": frame["official_split"],
            "label": strata_of(frame, spec),
            "decodable": decodable if spec.pictures else frame["fault"] != "damaged",
            **({} if spec.pictures else _of_volumes(frame, decodable)),
            "width": frame["width"].where(decodable),
            "height": frame["height"].where(decodable),
            "mode": frame["mode"].where(decodable),
            "copy_of": first.where(first != frame["path"]),
            "copied_from_training": testing & frame["sha256"].isin(frame.loc[training, "sha256"]),
            "near_copies": frame.groupby("near_copies")["path"].transform("size") - 1,
            "near_copy_in_training": testing & frame["near_copies"].isin(frame.loc[training, "near_copies"]),
            "group_in_training": testing & _shared_subject(frame, training),
            "contradicting_labels": frame["conflict"],
        }
    )


def _of_volumes(frame: pd.DataFrame, decodable: pd.Series[bool]) -> dict[str, pd.Series[Any]]:
    depth = frame[DEPTH].where(decodable)
    usual = depth.mode()
    return {
        "complete": frame["fault"] != "incomplete",
        "volume": frame["fault"] != "dimensions",
        "finite": frame["fault"] != "not finite",
        DEPTH: depth,
        "of_commonest_depth": depth.isna() | (depth == (usual.iloc[0] if len(usual) else -1)),
    }


def folder_table(frame: pd.DataFrame, spec: DataSpec) -> pd.DataFrame:
    """Count the decodable images of every class in every part of the official split, or in all where there is none.

    Returns
    -------
    pandas.DataFrame
        One row per class and part: path (such as Training/no_tumor) and images.
    """
    decodable = frame[frame["decodable"]]
    held = {label: has_label(decodable, label, spec) for label in spec.counted}
    if spec.official:
        of_part = {part: decodable["official_split"] == part for part in spec.official.names}
        counts = {f"{part}/{label}": held[label] & of_part[part] for part in of_part for label in held}
    else:
        counts = held
    return pd.DataFrame({"path": list(counts), "images": [int(found.sum()) for found in counts.values()]})


def class_table(frame: pd.DataFrame, spec: DataSpec) -> pd.DataFrame:
    """Count the decodable images of every class.

    Returns
    -------
    pandas.DataFrame
        One row per class: path (the class name), images, and imbalance (images of the largest class
        over its own; infinite for a class without images).
    """
    decodable = frame[frame["decodable"]]
    images = pd.Series([int(has_label(decodable, label, spec).sum()) for label in spec.counted], dtype=float)
    imbalance = images.max() / images.where(images > 0)
    return pd.DataFrame(
        {"path": spec.counted, "images": images.astype("int64"), "imbalance": imbalance.fillna(float("inf"))}
    )


def split_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Describe each image for the checks on the splits.

    Returns
    -------
    pandas.DataFrame
        One row per image: path, splits_of_group_grouped and splits_of_group_official (how many of train, val and
        test its group touches), and near_copy_in_train and group_in_train (for test images of the pooled protocol).
    """
    pooled = frame["split_pooled"]
    return pd.DataFrame(
        {
            "path": frame["path"],
            "splits_of_group_grouped": _splits_of_group(frame, "split_grouped"),
            "splits_of_group_official": _splits_of_group(frame, "split_official"),
            "near_copy_in_train": (pooled == "test")
            & frame["near_copies"].isin(frame.loc[pooled == "train", "near_copies"]),
            "group_in_train": (pooled == "test") & _shared_subject(frame, pooled == "train"),
        }
    )


def stratum_table(frame: pd.DataFrame, spec: DataSpec) -> pd.DataFrame:
    """Count the images of every class in every split of every protocol.

    Returns
    -------
    pandas.DataFrame
        One row per stratum: path (such as official/test/no_tumor) and images.
    """
    known = {label: has_label(frame, label, spec) for label in spec.counted}
    rows = [
        (f"{protocol}/{split}/{label}", int(((frame[f"split_{protocol}"] == split) & held).sum()))
        for protocol in spec.protocols
        for split in ACTIVE_SPLITS
        for label, held in known.items()
    ]
    return pd.DataFrame(rows, columns=["path", "images"])


def _shared_subject(frame: pd.DataFrame, others: pd.Series[bool]) -> pd.Series[bool]:
    """Whether an image's subject (patient, lesion) is known and among those of the others."""
    if SUBJECT not in frame:
        return pd.Series(False, index=frame.index)
    return (frame[SUBJECT] != "") & frame[SUBJECT].isin(frame.loc[others, SUBJECT])


def _splits_of_group(frame: pd.DataFrame, column: str) -> pd.Series[int]:
    used = frame[column].where(frame[column].isin(ACTIVE_SPLITS))
    return used.groupby(frame["group"]).transform("nunique")
