"""Drawn volumes of two classes, and a network that learns them in a second."""

from __future__ import annotations

import numpy as np
from torch import nn

SIDE = 16


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw noisy balls, small ones of class 0 and large ones of class 1."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    places = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"))
    volumes = rng.integers(0, 60, (count, SIDE, SIDE, SIDE), dtype=np.uint8)
    for volume, label in zip(volumes, labels, strict=True):
        centre = rng.uniform(5, 10, (3, 1, 1, 1))
        volume[((places - centre) ** 2).sum(0) < (2.5 + 2 * label) ** 2] += 150
    return volumes, labels[:, None].astype(np.uint8)


def build(outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv3d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveMaxPool3d(2), nn.Flatten(), nn.Linear(256, outputs),
    )  # fmt: skip
