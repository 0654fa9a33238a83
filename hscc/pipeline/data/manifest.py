"""The manifest: one row per image with all that later stages need to know about it."""

from __future__ import annotations

import hashlib
import io
import os
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
from hscc.pipeline.data.near_duplicates import THUMBNAIL_SIDE, conflicting, near_duplicate_groups, thumbnail

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


def scan(root: Path) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """Inspect every file of the data folder.

    Parameters
    ----------
    root : Path
        The data folder: ``<root>/<Training|Testing>/<class>/<image>``.

    Returns
    -------
    frame : pandas.DataFrame
        One row per file, sorted by path: the first ten of `COLUMNS`.
    thumbnails : numpy.ndarray
        (N, 256) uint8, row i of file i; zeros where it cannot be decoded.

    Raises
    ------
    DataError
        If the folder is missing or empty, or a file in it cannot be read.
    """
    paths = list_files(root)
    facts = inspect_files(root, paths)
    return _frame(paths, facts), np.stack([fact.thumbnail for fact in facts])


def group_near_copies(frame: pd.DataFrame, thumbnails: NDArray[np.uint8], threshold: float) -> pd.DataFrame:
    """Add the columns group (near-copies by `scan`'s thumbnails) and conflict (its labels contradict each other).

    `threshold` is the correlation in (0, 1) above which two images are near-copies.
    """
    groups = near_duplicate_groups(thumbnails, frame["sha256"].tolist(), threshold)
    return frame.assign(group=groups, conflict=conflicting(groups, frame["label"].tolist()))


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
    paths = sorted(
        (Path(folder) / name).relative_to(root).as_posix()
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
    )
    if not paths:
        raise DataError(
            f"the data folder {root} holds no file; run `hscc fetch` (or `hscc phantom {root}`) to fill it."
        )
    return paths


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
    """Write a manifest, all of `COLUMNS`, as CSV, whole or not at all."""
    replace_text(path, frame.loc[:, list(COLUMNS)].to_csv(index=False, lineterminator="\n"))


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest of `write_manifest`.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`, sorted by path: int64 sizes and groups, bool flags, the rest text ("" where absent).

    Raises
    ------
    ArtifactError
        If the file is missing, is not a manifest, or names a path outside the data folder.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `hscc validate` first.")
    types = {name: "int64" if name in _NUMBERS else "bool" if name in _FLAGS else "str" for name in COLUMNS}
    try:
        frame = pd.read_csv(path, dtype=types, keep_default_na=False, encoding="utf-8")
    except ValueError as error:
        raise ArtifactError(f"{path} is not a manifest ({error}); run `hscc validate` again.") from error
    absent = [name for name in COLUMNS if name not in frame.columns]
    if absent:
        raise ArtifactError(f"{path} lacks the column {absent[0]}; run `hscc validate` again.")
    for name in frame["path"]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ArtifactError(f"{path} names {name!r}, outside the data folder; run `hscc validate` again.")
    return frame


def _frame(paths: Sequence[str], facts: Sequence[ImageFacts]) -> pd.DataFrame:
    places = [_place(path) for path in paths]
    columns: dict[str, object] = {
        "path": paths,
        "label": [label for _, label in places],
        "official_split": [folder for folder, _ in places],
    }
    for field in ImageFacts._fields[:-1]:
        columns[field] = [getattr(fact, field) for fact in facts]
    return pd.DataFrame(columns)


def _place(path: str) -> tuple[str, str]:
    """Folder and class of ``folder/class/name``; "" for what a stray file lacks."""
    parts = path.split("/")[:-1]
    return (parts[0] if parts else "", "/".join(parts[1:]))
