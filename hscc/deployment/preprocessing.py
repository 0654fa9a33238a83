"""What happens to a picture before a network sees it: the numbers, the words, and Pillow as referee."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from hscc.errors import ExportError

Picture = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Grey conversion, resizing and normalisation. The defaults are what `hscc.data.images` does.

    Attributes
    ----------
    size : int
        Pixels a side that the network takes.
    mean, std : tuple of three float
        Of the network's input channels, for levels scaled to 0..1; the defaults are ImageNet's.
    grey : bool
        Whether colours become one grey level, which all three input channels get. False keeps red, green and blue.

    Raises
    ------
    ExportError
        If a number is out of range.
    """

    size: int = 224
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    grey: bool = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ExportError(f"size is {self.size}; give the pixels a side that the network takes.")
        if len(self.mean) != len(self.std) or len(self.std) != 3 or not min(self.std) > 0:
            raise ExportError("mean and std need a number for each of the three channels, those of std above 0.")

    def describe(self) -> str:
        """Say it in words, for a reader who has to do it in another language."""
        colours = (
            "to grey, L = (19595 R + 38470 G + 7471 B + 32768) >> 16, on all three channels"
            if self.grey
            else "grey copied to red, green and blue"
        )
        return (
            f"uint8; alpha dropped; {colours}; resized to {self.size} x {self.size} as Pillow 13 does with BILINEAR "
            "(antialiased, one axis after the other, rounded to whole levels after each); divided by 255; minus "
            f"{_listed(self.mean)}, divided by {_listed(self.std)}, channel by channel"
        )

    def prepare(self, picture: Picture) -> torch.Tensor:
        """Do it with Pillow: what the deployed forms are held against.

        Parameters
        ----------
        picture : ndarray of uint8, shape (rows, columns) or (rows, columns, channels)
            Grey, grey and alpha, RGB, or RGB and alpha.

        Returns
        -------
        Tensor of float32, shape (1, 3, size, size)
            The network's input.
        """
        image = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
        square = image.convert("L" if self.grey else "RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
        levels = torch.from_numpy(np.array(square)).view(1, self.size, self.size, -1).movedim(3, 1)
        return (levels.to(torch.float32) / 255.0 - per_channel(self.mean)) / per_channel(self.std)


def per_channel(values: Triple) -> torch.Tensor:
    """Shape a number a channel for broadcasting: float32 (1, 3, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


def _listed(values: Triple) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
