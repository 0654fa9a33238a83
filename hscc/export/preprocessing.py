"""What happens to a picture before a network sees it: the numbers, the words, and Pillow as referee."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from hscc.errors import ExportError
from hscc.networks.backbones import IMAGENET_MEAN, IMAGENET_STD

Picture = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """Grey conversion, resizing and normalisation. The defaults are what `hscc.training.images` does.

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
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
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


_UNIT = 1 << 22  # the weight 1: leaves 8 bits of grey level and a sign in 32 bits


class PillowResize(nn.Module):
    """Resize planes of levels to a square.

    Parameters
    ----------
    size : int
        Pixels a side afterwards.
    """

    middles: torch.Tensor  # of the new pixels, in new pixels: float64 (size,)

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("middles", torch.arange(size, dtype=torch.float64) + 0.5)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, rows, columns) to uint8 (n, size, size)."""
        rows, columns = planes.shape[1:]
        # Pillow's rule since version 13; the order of the axes shows in the bytes.
        tall = (rows > self.size) & (rows - self.size > 2 * (columns - self.size))
        square: torch.Tensor = torch.cond(tall, self._rows_first, self._columns_first, (planes,))
        return square

    def _columns_first(self, planes: torch.Tensor) -> torch.Tensor:
        return self._last_axis(self._last_axis(planes))

    def _rows_first(self, planes: torch.Tensor) -> torch.Tensor:
        return self._last_axis(self._last_axis(planes.transpose(1, 2))).transpose(1, 2).contiguous()

    def _last_axis(self, planes: torch.Tensor) -> torch.Tensor:
        """Resize the last axis and bring it forward: uint8 (n, a, b) to uint8 (n, size, a)."""
        length = planes.shape[2]
        positions, weights = self._weights(length)
        # Whole rows are gathered, which is cheap; a tap beyond the border weighs 0 and may read any pixel.
        taps = planes.transpose(1, 2).index_select(1, positions.clamp(max=length - 1).flatten())
        taps = taps.unflatten(1, positions.shape).to(torch.int32)
        total = (weights[:, None, :] @ taps).squeeze(2) + _UNIT // 2
        # Division by a power of two is exact, and the cast cuts off.
        return (total.to(torch.float64) / _UNIT).to(torch.uint8)  # type: ignore[no-any-return]

    def _weights(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Say which pixels of an axis each new one reads, and by what weight in 1 / 2^22: int64, int32 (size, taps)."""
        scale = torch.scalar_tensor(length, dtype=torch.float64) / self.size  # a plain number would be float32 in ONNX
        support = scale.clamp(min=1.0)
        centres = self.middles * scale
        first = (centres - support + 0.5).clamp(min=0.0).to(torch.int64)
        end = (centres + support + 0.5).to(torch.int64).clamp(max=length)
        taps = 2 * torch.sym_max((length + self.size - 1) // self.size, 1) + 1
        positions = first[:, None] + torch.arange(taps)
        distance = (positions - centres[:, None] + 0.5) * (1.0 / support)
        weights = (1.0 - distance.abs()).clamp(min=0.0).where(positions < end[:, None], 0.0)
        shares = weights / weights.sum(1, keepdim=True)
        return positions, (shares * _UNIT + 0.5).to(torch.int32)
