"""Grey images with labels, and the network inputs made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hscc.networks.backbones import IMAGENET_MEAN, IMAGENET_STD

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Attributes
    ----------
    images : ndarray of uint8, shape (M, S, S)
        All decoded images (a memory map).
    rows : ndarray of int64, shape (N,)
        Which of them belong to the split.
    labels : ndarray of int64, shape (N,)
        Class index of each.
    """

    images: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def batch(self, index: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return uint8 images (n, S, S) and labels (n,) at positions `index` of the split."""
        rows = self.rows[index]
        return torch.from_numpy(np.ascontiguousarray(self.images[rows])), torch.from_numpy(self.labels[index])


def batches(split: Split, size: int = EVALUATION_BATCH) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield network inputs (n, 3, S, S) and labels (n,) of a split, in order."""
    for start in range(0, len(split), size):
        images, labels = split.batch(np.arange(start, min(start + size, len(split))))
        yield to_input(images), labels


def to_input(images: npt.NDArray[np.uint8] | torch.Tensor) -> torch.Tensor:
    """Turn grey images into a network's input.

    Parameters
    ----------
    images : ndarray or Tensor of uint8 or float, shape (N, S, S)
        Grey levels 0 to 255.

    Returns
    -------
    Tensor of float32, shape (N, 3, S, S)
        Three equal channels, each normalised by ImageNet's mean and standard deviation.
    """
    grey = torch.as_tensor(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
    scaled = grey.unsqueeze(1).to(torch.float32) / 255.0
    mean, std = (
        torch.tensor(values, device=scaled.device).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (scaled - mean) / std
