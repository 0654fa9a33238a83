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
