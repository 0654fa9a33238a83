"""The manifest: one row per image with all that later stages need to know about it."""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from hscc.errors import ArtifactError, DataError
from hscc.files import replace_text
from hscc.pipeline.data.listing import SUBJECT, list_images
from hscc.pipeline.data.masks import COLUMNS as MASK_COLUMNS
from hscc.pipeline.data.masks import inspect_masks
from hscc.pipeline.data.near_duplicates import (
    THUMBNAIL_SIDE,
    conflicting,
    joined_groups,
    near_duplicate_groups,
    thumbnail,
)
from hscc.pipeline.data_spec import DataSpec

COLUMNS: tuple[str, ...] = (
    "path",
    "label",
    "official_split",
    "width",
    "height",
    "mode",
    "bytes",
    "sha256",
    "phash",
    "decodable",
    "group",
    "conflict",
    "split_grouped",
    "split_pooled",
    "split_official",
)
_NUMBERS = ("width", "height", "bytes", "group")
_FLAGS = ("decodable", "conflict")
# Raster formats only: Pillow would hand others (EPS) to outside programs.
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
# What Pillow's decoders raise on damaged bytes.
_DAMAGE = (OSError, SyntaxError, ValueError, IndexError, struct.error, Image.DecompressionBombError)


class ImageFacts(NamedTuple):
    """Properties of one file; -1 and "" where it is no image."""

    width: int
    height: int
    mode: str
    bytes: int
    sha256: str
    phash: str
    decodable: bool
    thumbnail: NDArray[np.uint8]


def scan(root: Path, spec: DataSpec) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """Inspect every image of the data folder.

    Parameters
    ----------
    root : Path
        The data folder.
    spec : DataSpec
        Where its images are, and their classes, official splits and groups.

    Returns
    -------
    frame : pandas.DataFrame
        One row per file, sorted by path: the first ten of `COLUMNS`, and `SUBJECT` where the spec has groups.
    thumbnails : numpy.ndarray
        (N, 256) uint8, row i of file i; zeros where it cannot be decoded.

    Raises
    ------
    DataError
        If the folder is missing or empty, a file in it cannot be read, or the table of the labels does not fit.
    """
    listed = list_images(root, spec)
    facts = inspect_files(root, listed["path"].tolist())
    columns = {field: [getattr(fact, field) for fact in facts] for field in ImageFacts._fields[:-1]}
    frame = listed.loc[:, ["path", "label", "official_split"]].assign(**columns)
    if spec.has_groups:
        frame[SUBJECT] = listed[SUBJECT]
    if spec.masks is not None:
        frame = inspect_masks(frame.assign(mask=listed["mask"], field=listed["field"]), root, spec.masks)
    return frame, np.stack([fact.thumbnail for fact in facts])


def group_near_copies(frame: pd.DataFrame, thumbnails: NDArray[np.uint8], threshold: float) -> pd.DataFrame:
    """Say which images belong together.

    Parameters
    ----------
    frame, thumbnails
        From `scan`.
    threshold : float
        Correlation in (0, 1) above which two images are near-copies.

    Returns
    -------
    pandas.DataFrame
        With the columns near_copies (group of near-copies), group (the same, joined where they share a subject: what
        never crosses a split) and conflict (near-copies whose labels contradict each other).
    """
    near = near_duplicate_groups(thumbnails, frame["sha256"].tolist(), threshold)
    groups = joined_groups(near, frame[SUBJECT].tolist()) if SUBJECT in frame else near
    return frame.assign(near_copies=near, group=groups, conflict=conflicting(near, frame["label"].tolist()))


def inspect_files(root: Path, paths: Sequence[str]) -> list[ImageFacts]:
    """Read and decode each file below the root once, in parallel, with a progress bar on stderr.

    Raises
    ------
    DataError
        If a file cannot be read at all.
    """
    with ThreadPoolExecutor() as pool:
        facts = pool.map(inspect_file, (root / path for path in paths))
        return list(track(facts, "inspecting images", total=len(paths), console=Console(stderr=True)))


def inspect_file(path: Path) -> ImageFacts:
    """Read one file, hash it and decode all of its pixels; not ``decodable`` where the bytes are no whole image.

    Raises
    ------
    DataError
        If the file cannot be read at all.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); restore it or run `hscc fetch`.") from error
    digest = hashlib.sha256(content).hexdigest()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            mode = image.mode
            grey = image.convert("L")  # decodes to the last row: a truncated file fails here
    except _DAMAGE:
        blank = np.zeros(THUMBNAIL_SIDE**2, dtype=np.uint8)
        return ImageFacts(-1, -1, "", len(content), digest, "", False, blank)
    fingerprint = str(imagehash.phash(grey))
    return ImageFacts(grey.width, grey.height, mode, len(content), digest, fingerprint, True, thumbnail(grey))


def write_manifest(frame: pd.DataFrame, path: Path) -> None:
    """Write a manifest, all of `COLUMNS`, and `SUBJECT` and masks where they are there, as CSV, whole or not at all."""
    columns = [*COLUMNS, *(name for name in (SUBJECT, *MASK_COLUMNS) if name in frame)]
    replace_text(path, frame.loc[:, columns].to_csv(index=False, lineterminator="\n"))


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest of `write_manifest`.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS` and perhaps `SUBJECT`, sorted by path: int64 sizes and groups, bool flags, the rest text ("" where
        absent).

    Raises
    ------
    ArtifactError
        If the file is missing, is not a manifest, or names a path outside the data folder.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `hscc validate` first.")
    types = {name: "int64" if name in _NUMBERS else "bool" if name in _FLAGS else "str" for name in COLUMNS}
    types |= dict.fromkeys((SUBJECT, *MASK_COLUMNS), "str")
    try:
        frame = pd.read_csv(path, dtype=types, keep_default_na=False, encoding="utf-8")
    except ValueError as error:
        raise ArtifactError(f"{path} is not a manifest ({error}); run `hscc validate` again.") from error
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent:
        raise ArtifactError(f"{path} lacks the column {absent[0]}; run `hscc validate` again.")
    for name in pd.concat([frame[column] for column in ("path", *MASK_COLUMNS[:2]) if column in frame]):
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ArtifactError(f"{path} names {name!r}, outside the data folder; run `hscc validate` again.")
    return frame
