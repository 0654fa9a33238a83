"""Drawn pictures with labels and values, and a network that learns them in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import nn

SIDE = 32


def draw(count: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Noise, with a disc, a square, both or neither; as values the side of the square and its grey level."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, SIDE, SIDE), dtype=np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    table = []
    for number, image in enumerate(images):
        disc, square = number % 2 == 0, number % 4 > 1
        side, grey = int(rng.integers(4, 14)) if square else 0, int(rng.integers(80, 190))
        image[16 : 16 + side, 2 : 2 + side] += np.uint8(grey)
        if disc:
            image[(rows - 8) ** 2 + (columns - 23) ** 2 < 36] += 120
        table.append((f"{number}.png", int(disc), int(square), 1000 + 10.5 * side, grey * square))
    return images, pd.DataFrame(table, columns=["path", "disc", "square", "across", "grey"])


def write(folder: Path, count: int) -> pd.DataFrame:
    """Write pictures and ``table.csv`` into a new folder."""
    images, table = draw(count, 0)
    folder.mkdir()
    for name, image in zip(table["path"], images, strict=True):
        Image.fromarray(image).save(folder / name)
    table.to_csv(folder / "table.csv", index=False)
    return table


def build(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveMaxPool2d(4), nn.Flatten(), nn.Linear(512, outputs),
    )  # fmt: skip
