"""The manifest: one row per image with all that later stages need to know about it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image as Pillow
from rich.console import Console
from rich.progress import track

from hscc.errors import ArtifactError, DataError
from hscc.files import replace_text
from hscc.pipeline.data.formats.base import Image, UnreadableError
from hscc.pipeline.data.formats.known import format_of
from hscc.pipeline.data.formats.levels import Window, to_levels
from hscc.pipeline.data.listing import SUBJECT, list_images
from hscc.pipeline.data.masks import COLUMNS as MASK_COLUMNS
from hscc.pipeline.data.masks import inspect_masks
from hscc.pipeline.data.near_duplicates import (
    conflicting,
    joined_groups,
    near_duplicate_groups,
    projections,
    thumbnail,
    thumbnail_length,
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
DEPTH = "depth"  # slices of a volume; a column of manifests of volumes alone
_NUMBERS = ("width", "height", "bytes", "group", DEPTH)
_FLAGS = ("decodable", "conflict")


class ImageFacts(NamedTuple):
    """Properties of one image; -1 and "" where it cannot be decoded.

    Attributes
    ----------
    depth : int
        Slices of a volume, 1 for a picture.
    fault : {"", "damaged", "incomplete", "dimensions", "not finite"}
        Why it is not decodable: see `hscc.pipeline.data.formats.base.UnreadableError`; a picture among volumes or the
        other way round; NaN or infinite values.
    """

    width: int
    height: int
    mode: str
    bytes: int
    sha256: str
    phash: str
    decodable: bool
    depth: int
    fault: str
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
        One row per image, sorted by path: the first ten of `COLUMNS`, of volumes `DEPTH` and fault (see `ImageFacts`),
        and `SUBJECT` where the spec has groups.
    thumbnails : numpy.ndarray
        uint8, (N, 256) of pictures and (N, 768) of volumes, row i of image i; zeros where it cannot be decoded.

    Raises
    ------
    DataError
        If the folder is missing or empty, a file in it cannot be read, or the table of the labels does not fit.
    """
    listed = list_images(root, spec)
    facts = inspect_files(root, listed["path"].tolist(), len(spec.sides), spec.window)
    columns = {field: [getattr(fact, field) for fact in facts] for field in ImageFacts._fields[:-1]}
    frame = listed.loc[:, ["path", "label", "official_split"]].assign(**columns)
    if spec.pictures:
        frame = frame.drop(columns=[DEPTH, "fault"])
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


def inspect_files(
    root: Path, paths: Sequence[str], dimensions: int = 2, window: Window | None = None
) -> list[ImageFacts]:
    """Read and decode each image below the root, in parallel, with a progress bar on stderr; see `inspect_file`.

    Raises
    ------
    DataError
        If a file cannot be read at all.
    """
    with ThreadPoolExecutor() as pool:
        facts = pool.map(lambda path: inspect_file(root / path, dimensions, window), paths)
        return list(track(facts, "inspecting images", total=len(paths), console=Console(stderr=True)))


def inspect_file(path: Path, dimensions: int = 2, window: Window | None = None) -> ImageFacts:
    """Read one image, hash it and decode all of its pixels; not ``decodable`` where it is no whole image.

    Parameters
    ----------
    path : Path
        Of the image, perhaps ``file#place``.
    dimensions : {2, 3}
        Whether pictures or volumes are expected.
    window : (float, float), optional
        Of the data spec; thumbnails show the image through it.

    Raises
    ------
    DataError
        If the file cannot be read at all.
    """
    form = format_of(path)
    try:
        size, digest = form.content(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); restore it or run `hscc fetch`.") from error
    try:
        image = form.read(path)
    except UnreadableError as error:
        return _unfit(error.fault, size, digest, dimensions)
    if image.dimensions != dimensions:
        return _unfit("dimensions", size, digest, dimensions)
    if not image.finite:
        return _unfit("not finite", size, digest, dimensions)
    depth, height, width = (1, *image.sides)[-3:]
    pictures = _views(image, window)
    thumbnails = np.concatenate([thumbnail(picture) for picture in pictures])
    fingerprint = str(imagehash.phash(pictures[0]))
    return ImageFacts(width, height, image.mode, size, digest, fingerprint, True, depth, "", thumbnails)


def _unfit(fault: str, size: int, digest: str, dimensions: int) -> ImageFacts:
    blank = np.zeros(thumbnail_length(dimensions), dtype=np.uint8)
    return ImageFacts(-1, -1, "", size, digest, "", False, -1, fault, blank)


def _views(image: Image, window: Window | None) -> list[Pillow.Image]:
    """Return a picture in grey, or a volume's mean along each axis."""
    levels = to_levels(image, window)
    if image.dimensions == 3:
        return [Pillow.fromarray(each) for each in projections(levels)]
    return [Pillow.fromarray(levels).convert("L")]


def write_manifest(frame: pd.DataFrame, path: Path) -> None:
    """Write a manifest, all of `COLUMNS`, and `DEPTH`, `SUBJECT` and masks where they are there, as CSV.

    It is written whole or not at all.
    """
    columns = [*COLUMNS, *(name for name in (DEPTH, SUBJECT, *MASK_COLUMNS) if name in frame)]
    replace_text(path, frame.loc[:, columns].to_csv(index=False, lineterminator="\n"))


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest of `write_manifest`.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS` and perhaps `DEPTH` and `SUBJECT`, sorted by path: int64 sizes and groups, bool flags, the rest text
        ("" where absent).

    Raises
    ------
    ArtifactError
        If the file is missing, is not a manifest, or names a path outside the data folder.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `hscc validate` first.")
    types = {name: "int64" if name in _NUMBERS else "bool" if name in _FLAGS else "str" for name in COLUMNS}
    types |= dict.fromkeys((SUBJECT, *MASK_COLUMNS), "str") | {DEPTH: "int64"}
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
