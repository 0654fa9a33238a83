"""Images as arrays: decoded once into a memory-mapped cache that all stages share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.progress import track

from hscc.errors import ArtifactError, DataError
from hscc.files import replacing
from hscc.pipeline.data.formats.known import format_of
from hscc.pipeline.data.formats.levels import Levels, Window, decode

# Part of the cache key, by channels: change it when decoding changes.
_CACHE_FORMATS = {1: "grey-bilinear-1", 3: "colour-bilinear-1"}
_VOLUMES = "volumes-linear-1"


def load_images(
    manifest: pd.DataFrame,
    root: Path,
    sides: Sequence[int],
    cache: Path,
    channels: int = 1,
    window: Window | None = None,
) -> Levels:
    """Decode every image of a manifest to one size, at most once per machine.

    Parameters
    ----------
    manifest : pandas.DataFrame
        Needs the columns ``path`` (relative to `root`) and ``sha256``.
    root : Path
        Folder of the data set.
    sides : sequence of int
        Height and width of the images in pixels, or depth, height and width of volumes.
    cache : Path
        Folder of the cache; its file name is a digest of contents and size, so it is never stale.
    channels : {1, 3}
        Grey, or red, green and blue.
    window : (float, float), optional
        Values that become black and white, see `hscc.pipeline.data.formats.levels.to_levels`.

    Returns
    -------
    ndarray of uint8, shape (N, H, W), (N, H, W, 3) or (N, D, H, W)
        Read-only memory map; row i belongs to row i of the manifest.

    Raises
    ------
    DataError
        If an image is missing or cannot be decoded; nothing is cached then.
    """
    size = str(sides[0]) if len(set(sides)) == 1 else "x".join(map(str, sides))
    form = _CACHE_FORMATS[channels] if len(sides) == 2 else _VOLUMES
    shown = "" if window is None else f":{window[0]:g}..{window[1]:g}"
    key = f"{form}{shown}:{size}:{','.join(manifest['sha256'])}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:20]
    path = cache / f"{digest}-{size}.npy"
    with suppress(FileNotFoundError, ValueError, EOFError):  # not there, or half of it after a crash
        return _opened(path)
    with replacing(path, shared=True) as new:
        _decode_all([root / p for p in manifest["path"]], tuple(sides), channels, window, new)
    return _opened(path)


def _opened(path: Path) -> Levels:
    images: Levels = np.load(path, mmap_mode="r", allow_pickle=False)
    return images


def _decode_all(paths: list[Path], sides: tuple[int, ...], channels: int, window: Window | None, target: Path) -> None:
    shape = (len(paths), *sides) if channels == 1 else (len(paths), *sides, channels)
    array = np.lib.format.open_memmap(target, mode="w+", dtype=np.uint8, shape=shape)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(lambda path: _decode(path, sides, channels, window), paths)
        for row, image in enumerate(track(decoded, "decoding images", len(paths))):
            array[row] = image
    array.flush()


def _decode(path: Path, sides: tuple[int, ...], channels: int, window: Window | None) -> Levels:
    try:
        return decode(format_of(path).read(path), sides, channels, window, str(path))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is in the manifest but not on disk; run `hscc fetch`, then `hscc validate`."
        ) from error


def labels_of(manifest: pd.DataFrame, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Class index of every row, in the order of `classes`; -1 for a row of none of them, which no split holds."""
    index = {name: place for place, name in enumerate(classes)}
    return np.asarray([index.get(label, -1) for label in manifest["label"]], dtype=np.int64)


def rows_of(manifest: pd.DataFrame, protocol: str, splits: str | Iterable[str]) -> npt.NDArray[np.int64]:
    """Positions of the manifest rows in one or more splits of a protocol, ascending.

    Raises
    ------
    ArtifactError
        If the manifest has no such protocol or none of its rows are in the split.
    """
    column = f"split_{protocol}"
    if column not in manifest:
        raise ArtifactError(f"the manifest has no column {column}; run `hscc validate` again.")
    wanted = [splits] if isinstance(splits, str) else list(splits)
    rows = np.flatnonzero(manifest[column].isin(wanted).to_numpy())
    if not rows.size:
        raise ArtifactError(f"the {protocol} protocol has no image in {', '.join(wanted)}; run `hscc validate` again.")
    return rows
