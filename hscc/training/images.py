"""Images with labels, and the network inputs made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hscc.networks.normalisation import IMAGENET, Normalisation
from hscc.training.augmentation import channels_first, per_channel

EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Split:
    """Images and labels of one split.

    Attributes
    ----------
    images : ndarray of uint8, shape (M, H, W), (M, H, W, 3) or (M, D, H, W)
        All decoded images (a memory map): grey; red, green and blue; or grey volumes.
    rows : ndarray of int64, shape (N,)
        Which of them belong to the split.
    labels : ndarray of int64, shape (N,)
        Class index of each.
    normalisation : Normalisation
        Of the network's inputs.
    """

    images: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    normalisation: Normalisation = IMAGENET

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def batch(self, index: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (n, ...), as they are in `images`, and labels (n,) at positions `index` of the split."""
        rows = self.rows[index]
        return torch.from_numpy(np.ascontiguousarray(self.images[rows])), torch.from_numpy(self.labels[index])


def batches(split: Split, size: int = EVALUATION_BATCH) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield network inputs (n, channels, ...) and labels (n,) of a split, in order."""
    for start in range(0, len(split), size):
        images, labels = split.batch(np.arange(start, min(start + size, len(split))))
        yield to_input(images, split.normalisation), labels


def to_input(images: npt.NDArray[np.uint8] | torch.Tensor, normalisation: Normalisation = IMAGENET) -> torch.Tensor:
    """Turn images into a network's input.

    Parameters
    ----------
    images : ndarray or Tensor of uint8 or float, shape (N, H, W), (N, H, W, 3) or (N, D, H, W)
        Levels 0 to 255: grey; red, green and blue; or grey volumes.
    normalisation : Normalisation
        Of the network's input channels: three, or one for grey images.

    Returns
    -------
    Tensor of float32, shape (N, channels, H, W) or (N, channels, D, H, W)
        Grey in every channel, or the colours; each channel less its mean, over its standard deviation.
    """
    levels = torch.as_tensor(np.ascontiguousarray(images)) if isinstance(images, np.ndarray) else images
    scaled = channels_first(levels).to(torch.float32) / 255.0
    mean, std = (
        per_channel(values, scaled.ndim - 2).to(scaled.device) for values in (normalisation.mean, normalisation.std)
    )
    return ((scaled - mean) / std).contiguous()
