"""Which images a data set holds, and what its folders or its table say of each."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from hscc.errors import DataError
from hscc.pipeline.data.formats.known import images_in
from hscc.pipeline.data.formats.npz import labels_of, names_of, splits_of
from hscc.pipeline.data.masks import list_masked
from hscc.pipeline.data.targets import read_labels, refuse_rows
from hscc.pipeline.data_spec import DataSpec, LabelTable

SUBJECT = "subject"  # patient, lesion: images of one never cross a split


def list_images(root: Path, spec: DataSpec) -> pd.DataFrame:
    """List the images of a data set; a file or folder may hold several, or be one of several files.

    Parameters
    ----------
    root : Path
        The data folder.
    spec : DataSpec
        Its layout, official split and groups.

    Returns
    -------
    pandas.DataFrame
        One row per image, sorted by path: path (posix, relative to the root; ``file#place`` inside a file), label,
        official_split, subject; "" for what is not known; mask and field of the image where the data set has masks.

    Raises
    ------
    DataError
        If the folder is missing or empty, the table of the labels is missing, lacks a column or names an image that
        is not there, none, or one twice, or an array of images has no labels.
    """
    files = list_files(root)
    if spec.masks is not None:
        frame = list_masked(files, spec.masks, official=spec.official is not None).assign(**{SUBJECT: ""})
    elif spec.layout == "arrays":
        frame = _of_arrays(root, files, spec)
    else:
        images = images_in(root, files, volumes=not spec.pictures)
        frame = _of_folders(images, spec) if spec.table is None else _of_table(root, images, spec.table, spec)
    if spec.group is not None:
        pattern = re.compile(spec.group)
        frame[SUBJECT] = [subject_of(pattern, path) for path in frame["path"]]
    return frame


def list_files(root: Path) -> list[str]:
    """List every file below a folder, as sorted posix paths relative to it.

    Raises
    ------
    DataError
        If the folder is missing or holds no file.
    """
    if not root.is_dir():
        raise DataError(
            f"the data folder {root} does not exist; run `hscc fetch` (or `hscc phantom {root}`) to make it."
        )
    paths = []
    for folder, inner, names in os.walk(root):
        linked = next((name for name in inner if (Path(folder) / name).is_symlink()), None)
        if linked is not None:
            raise DataError(
                f"{Path(folder) / linked} is a link to a folder, whose changes DVC would not notice; put the folder "
                "itself there, or make the workspace with `hscc init --copy`."
            )
        paths += [(Path(folder) / name).relative_to(root).as_posix() for name in names]
    paths.sort()
    if not paths:
        raise DataError(
            f"the data folder {root} holds no file; run `hscc fetch` (or `hscc phantom {root}`) to fill it."
        )
    return paths


def _of_folders(files: Sequence[str], spec: DataSpec) -> pd.DataFrame:
    """Read class and official split off ``[split/]class/name``; "" for what a stray file lacks."""
    depth = 1 if spec.official else 0
    parts = [path.split("/")[:-1] for path in files]
    return pd.DataFrame(
        {
            "path": files,
            "label": ["/".join(found[depth:]) for found in parts],
            "official_split": ["/".join(found[:depth]) for found in parts],
            SUBJECT: "",
        }
    )


def _of_arrays(root: Path, files: Sequence[str], spec: DataSpec) -> pd.DataFrame:
    """Read class and official split off the arrays of NPZ files, see `hscc.pipeline.data.formats.npz`."""
    parts = []
    for file in files:
        for split in splits_of(root / file):
            labels = labels_of(root / file, split, spec.classes)
            parts.append(
                pd.DataFrame({"path": names_of(file, split, len(labels)), "label": labels, "official_split": split})
            )
    if not parts:
        raise DataError(
            f"{root} holds no NPZ file with an array of images; add one with train_images, train_labels and so on, or "
            "change data.layout in params.yaml."
        )
    return pd.concat(parts).assign(**{SUBJECT: ""}).sort_values("path", ignore_index=True)


def _of_table(root: Path, files: Sequence[str], table: LabelTable, spec: DataSpec) -> pd.DataFrame:
    path = root / table.file
    read = _read_table(path, table)
    frame = pd.DataFrame({"path": [PurePosixPath(name).as_posix() for name in read[table.path]]})
    frame["label"] = read_labels(read, table, spec, str(path))
    for name, column in (("official_split", table.split), (SUBJECT, table.group)):
        frame[name] = "" if column is None else read[column].str.strip().to_numpy()
    named = " or ".join(table.labels)
    refuse_rows(frame.loc[frame["label"] == "", "path"], f"{path} gives no {named} to", "fill in the column")
    refuse_rows(frame.loc[frame["path"].duplicated(), "path"], f"{path} lists twice", "leave one row of each")
    absent = frame.loc[~frame["path"].isin(set(files)), "path"]
    refuse_rows(
        absent, f"{root} does not hold what {path} names:", "add the files, correct the paths, or remove the rows"
    )
    if frame.empty:
        raise DataError(f"{path} has no row; list the images in it.")
    unlisted = len(files) - len(frame) - (table.file in files)
    if unlisted:
        print(f"{unlisted} files in {root} are not in {path} and are not used", flush=True)
    return frame.sort_values("path", ignore_index=True)


def _read_table(path: Path, table: LabelTable) -> pd.DataFrame:
    """Read the columns that are asked for, as text; "" where a cell is empty."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; correct data.table.file in params.yaml, or add the file.")
    try:
        if path.suffix == ".parquet":
            read = pd.read_parquet(path)
        else:
            read = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as a table ({error}); write it as {path.suffix[1:]} again.") from error
    asked = [("path", table.path), *(("label", name) for name in table.labels)]
    for key, column in (*asked, ("split", table.split), ("group", table.group)):
        if column is not None and column not in read:
            raise DataError(
                f"{path} has no column {column!r}, only {', '.join(map(str, read.columns))}; correct data.table.{key} "
                "in params.yaml."
            )
    return read.astype("object").where(read.notna(), "").astype(str)


def subject_of(pattern: re.Pattern[str], path: str) -> str:
    """What the pattern matches in a file's name: its first group, or all of it where it has none."""
    found = pattern.search(PurePosixPath(path).name)
    if found is None:
        return ""
    return (found.group(1) or "") if pattern.groups else found.group()
