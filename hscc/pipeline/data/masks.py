"""The masks of a segmentation data set: where each image's is, what its levels mean, and whether it fits the image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from hscc.errors import ArtifactError, DataError
from hscc.files import replacing
from hscc.pipeline.data.formats.pictures import DAMAGE
from hscc.pipeline.data_spec import IMAGE_LABEL, MaskSpec

MASK, FIELD, MASK_SHA256 = "mask", "field", "mask_sha256"  # columns of the manifest
COLUMNS = (MASK, FIELD, MASK_SHA256)
_FORMAT = "nearest-1"  # part of the cache key: change it when decoding changes
_FILES = ("BMP", "GIF", "PNG", "TIFF")  # without loss


def list_masked(files: Sequence[str], spec: MaskSpec, *, official: bool) -> pd.DataFrame:
    """List the images among some files, with their masks.

    Parameters
    ----------
    files : sequence of str
        Paths below the data folder.
    spec : MaskSpec
        Which of them are images, and where their masks are.
    official : bool
        Whether the first folder is the data set's own split.

    Returns
    -------
    pandas.DataFrame
        One row per image: path, label, official_split, mask and field (paths; "" where there is no field of view).

    Raises
    ------
    DataError
        If no file is an image, or an image has no mask.
    """
    pattern, held = re.compile(spec.images), set(files)
    rows = []
    for path in files:
        found = pattern.search(path)
        if found is None:
            continue
        places = [found.expand(template) if template else "" for template in (spec.mask, spec.field)]
        for key, place in zip(("mask", "field"), places, strict=True):
            if place and place not in held:
                raise DataError(f"{path} has no {key}: {place} does not exist; add it, or correct data.masks.{key}.")
        rows.append((path, IMAGE_LABEL, path.split("/")[0] if official else "", *places))
    if not rows:
        raise DataError(f"data.masks.images {spec.images!r} matches none of {len(files)} files; correct it.")
    return pd.DataFrame(rows, columns=["path", "label", "official_split", MASK, FIELD])


def inspect_masks(frame: pd.DataFrame, root: Path, spec: MaskSpec) -> pd.DataFrame:
    """Check every mask against its image and the spec, and add the hash of what it is made of.

    Parameters
    ----------
    frame : pandas.DataFrame
        Of images with their masks, and width and height of the images.
    root : Path
        The data folder.
    spec : MaskSpec
        What the levels mean.

    Raises
    ------
    DataError
        If a mask cannot be read, has another size than its image or a level that the spec does not name.
    """
    hashes = []
    for row in frame.itertuples():
        content = hashlib.sha256(repr(sorted(spec.values.items())).encode())  # later stages see other values by it
        for place in filter(None, (row.mask, row.field)):
            levels = _read(root / str(place))
            if row.decodable and levels.shape != (row.height, row.width):
                raise DataError(
                    f"{root / str(place)} is {levels.shape[1]} x {levels.shape[0]} pixels and its image {row.path} "
                    f"{row.width} x {row.height}; replace one of them."
                )
            content.update((root / str(place)).read_bytes())
        _refuse_unknown(_read(root / str(row.mask)), root / str(row.mask), spec)
        hashes.append(content.hexdigest())
    return frame.assign(**{MASK_SHA256: hashes})


def _refuse_unknown(levels: npt.NDArray[np.uint8], path: Path, spec: MaskSpec) -> None:
    unknown = sorted(set(np.unique(levels).tolist()) - set(spec.values.values()))
    if unknown:
        named = ", ".join(f"{name} {level}" for name, level in spec.values.items())
        raise DataError(
            f"{path} has the level {unknown[0]}, which data.masks.values ({named}) does not name; add it, or correct "
            "the mask."
        )


def load_masks(
    manifest: pd.DataFrame, root: Path, spec: MaskSpec, sides: Sequence[int], classes: Sequence[str], cache: Path
) -> npt.NDArray[np.uint8]:
    """Decode the mask of every image, in the size of the decoded images, at most once per machine.

    Parameters
    ----------
    manifest : pandas.DataFrame
        With the columns of `COLUMNS`.
    root : Path
        Folder of the data set.
    spec : MaskSpec
        What the levels mean.
    sides : sequence of int
        Height and width.
    classes : sequence of str
        Class names in the order of the networks' outputs.
    cache : Path
        Folder of the cache.

    Returns
    -------
    ndarray of uint8, shape (N, H, W)
        0 where a pixel does not count, else its class index plus 1; nearest neighbours (a read-only memory map).

    Raises
    ------
    ArtifactError
        If the manifest has no masks.
    DataError
        If a mask cannot be read; nothing is cached then.
    """
    if MASK_SHA256 not in manifest:
        raise ArtifactError("the manifest has no masks; run `hscc validate` again.")
    table = np.zeros(256, dtype=np.uint8)
    for index, name in enumerate(classes):
        table[spec.values[name]] = index + 1
    size = "x".join(map(str, sides))
    key = f"{_FORMAT}:{size}:{table.tobytes().hex()}:{','.join(manifest[MASK_SHA256])}"
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}-{size}-masks.npy"
    with suppress(FileNotFoundError, ValueError, EOFError):  # not there, or half of it after a crash
        return _opened(path)
    with replacing(path, shared=True) as new:
        shape = (len(manifest), sides[0], sides[1])
        codes = np.lib.format.open_memmap(new, mode="w+", dtype=np.uint8, shape=shape)
        for row, (mask, field) in enumerate(zip(manifest[MASK], manifest[FIELD], strict=True)):
            codes[row] = table[_read(root / mask, sides)]
            if field:
                codes[row][_read(root / field, sides) == 0] = 0
        codes.flush()
    return _opened(path)


def _opened(path: Path) -> npt.NDArray[np.uint8]:
    masks: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return masks


def _read(path: Path, sides: Sequence[int] | None = None) -> npt.NDArray[np.uint8]:
    """Levels of a mask, of its own size or of that which is asked for."""
    try:
        with Image.open(path, formats=_FILES) as image:
            grey = image.convert("L")
            if sides is not None:
                grey = grey.resize((sides[1], sides[0]), Image.Resampling.NEAREST)
            return np.asarray(grey)
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as a mask ({error}); restore it as PNG, GIF, TIFF or BMP.") from error
