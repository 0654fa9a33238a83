"""MRI-like phantom slices of the four classes, in the folder layout of the real data set.

For machines that have no source of the MRI images, and for tests. Nobody was scanned: figures measured on a phantom
show that the pipeline works, nothing about medicine, and every file has a JPEG comment that says so.
"""

from __future__ import annotations

import filecmp
import io
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from hscc.errors import DataError
from hscc.pipeline.data.phantom.slices import QUALITY, draw_slice, encode
from hscc.terminal import track

CLASSES = ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor")
FOLDERS = ("Training", "Testing")


def draw_dataset(
    root: Path, *, train_per_class: int, test_per_class: int, size: int = 144, seed: int = 0, duplicates: int = 0
) -> list[tuple[str, str]]:
    """Draw a data set in the layout of the real one: ``root/{Training,Testing}/{class}/*.jpg``.

    Every image has a random stream of its own, from (seed, split, class, index): with more images the first ones stay
    the same, byte for byte. The folder appears as a whole or not at all. Drawing it again changes nothing; a folder
    that holds anything else is refused.

    Parameters
    ----------
    root : Path
        Folder to make, usually a workspace's ``data``.
    train_per_class, test_per_class : int
        Images of each class under Training and under Testing.
    size : int
        Nominal side of an image in pixels; sides vary by about 15 % around it.
    seed : int
        Of everything drawn.
    duplicates : int
        Further files that copy a training image, for the checks to find. In turn: the same bytes
        within Training, the same bytes under Testing, a near-copy (re-encoded, brighter) within Training, and the
        same bytes under another class.

    Returns
    -------
    list of tuple of str
        The planted copies as (copy, original), posix paths relative to ``root``.

    Raises
    ------
    DataError
        If a number is out of range or ``root`` holds other files.
    """
    _check(train_per_class, test_per_class, size, seed, duplicates)
    staging = root.with_name(f".{root.name}.drawing")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _draw_all(staging, (train_per_class, test_per_class), size, seed)
        planted = _plant(staging, train_per_class, duplicates)
        _move_into_place(staging, root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return planted


def _check(train_per_class: int, test_per_class: int, size: int, seed: int, duplicates: int) -> None:
    most = len(CLASSES) * train_per_class
    for name, value, least in (
        ("train_per_class", train_per_class, 1),
        ("test_per_class", test_per_class, 1),
        ("size", size, 32),
        ("seed", seed, 0),
        ("duplicates", duplicates, 0),
    ):
        if value < least:
            raise DataError(f"{name} of the phantom is {value}; make it at least {least}.")
    if duplicates > most:
        raise DataError(f"duplicates of the phantom is {duplicates}; make it at most {most}, one per training image.")


def _name(split: str, label: str, index: int) -> PurePosixPath:
    return PurePosixPath(split, label, f"image({index + 1}).jpg")


def _draw_all(root: Path, per_class: tuple[int, int], size: int, seed: int) -> None:
    jobs = [
        (split, label, index)
        for split, count in enumerate(per_class)
        for label in range(len(CLASSES))
        for index in range(count)
    ]
    for split in FOLDERS:
        for label in CLASSES:
            (root / split / label).mkdir(parents=True)

    def draw(job: tuple[int, int, int]) -> None:
        split, label, index = job
        image = draw_slice(CLASSES[label], np.random.default_rng((seed, *job)), size)
        (root / _name(FOLDERS[split], CLASSES[label], index)).write_bytes(encode(image))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in track(pool.map(draw, jobs), "Drawing slices", len(jobs)):
            pass


def _plant(root: Path, train_per_class: int, duplicates: int) -> list[tuple[str, str]]:
    planted = []
    for number in range(duplicates):
        index, label = divmod(number, len(CLASSES))
        kind, own = (number + index) % 4, CLASSES[label]  # shifted each round: every class gets every kind
        original = _name(FOLDERS[0], own, index)
        other = CLASSES[(label + 1) % len(CLASSES)] if kind == 3 else own
        copy = PurePosixPath(FOLDERS[kind == 1], other, f"copy({number + 1}).jpg")
        content = (root / original).read_bytes()
        (root / copy).write_bytes(_re_encoded(content) if kind == 2 else content)
        planted.append((str(copy), str(original)))
    return planted


def _re_encoded(jpeg: bytes) -> bytes:
    grey = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), dtype=np.float64)
    return encode(np.clip(np.rint(1.03 * grey), 0, 255).astype(np.uint8), QUALITY - 18)


def _files(root: Path) -> Iterator[str]:
    return (path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file())


def _move_into_place(staging: Path, root: Path) -> None:
    """Move the drawn tree into place, unless exactly this tree is there already."""
    if not root.exists() or not any(root.iterdir()):
        staging.replace(root)
        return
    drawn = list(_files(staging))
    if drawn == list(_files(root)) and not any(filecmp.cmpfiles(staging, root, drawn, shallow=False)[1:]):
        return
    raise DataError(f"{root} already holds other files; name a folder that is empty or absent for the phantom.")
