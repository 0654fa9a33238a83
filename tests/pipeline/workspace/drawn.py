"""Tiny data sets in the layouts that `hscc init` knows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def draw(path: Path, *, side: int = 48, colour: bool = False, seed: int = 0) -> None:
    """Write one picture of noise, dark around."""
    rng = np.random.default_rng([seed, *path.name.encode()])
    pixels = np.zeros((side, side, 3 if colour else 1), dtype=np.uint8)
    pixels[8:-8, 8:-8] = rng.integers(0, 256, pixels[8:-8, 8:-8].shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.repeat(3, 2) if not colour else pixels).save(path)


def folders(
    root: Path, names: Iterable[str], tops: Iterable[str] = ("",), *, count: int = 6, colour: bool = False
) -> Path:
    """One folder per class, below the folders of a split if there are any."""
    for top in tops:
        for name in names:
            for index in range(count):
                draw(root / top / name / f"{name}{top}({index}).png", colour=colour)
    return root


def with_masks(root: Path, tops: Iterable[str] = ("",), *, count: int = 4, field: bool = False) -> Path:
    """Pictures in ``images``, masks in ``1st_manual`` named by the picture's number, fields of view in ``mask``."""
    square = np.zeros((48, 48), dtype=np.uint8)
    square[8:-8, 8:-8] = 255
    stroke = square * (np.arange(48) == 24)[:, None]
    for top in tops:
        for index in range(count):
            draw(root / top / f"images/{index}_{top}scan.png", colour=True)
            masks = {f"1st_manual/{index}_manual1.png": stroke}
            if field:
                masks[f"mask/{index}_{top}scan_mask.png"] = square
            for name, pixels in masks.items():
                path = root / top / name
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return root


def arrays(path: Path, shape: tuple[int, ...], splits: Iterable[str] = ("train", "val", "test")) -> Path:
    """An archive of twelve images of two classes per split."""
    rng = np.random.default_rng(0)
    held: dict[str, np.ndarray] = {}
    for split in splits:
        held[f"{split}_images"] = rng.integers(0, 256, (12, *shape), dtype=np.uint8)
        held[f"{split}_labels"] = np.arange(12)[:, None] % 2
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **held)
    return path
