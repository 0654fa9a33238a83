"""What happens to a picture before a network sees it: the numbers, in words, by Pillow, and as a module.

`Preprocessing` holds the numbers and does the work with Pillow; `Preprocess` is the same as a module of a deployed
network, byte for byte.
"""

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

# Pillow's weights of red, green and blue in 1 / 2^16. Every sum below 2^24, so float32 has no rounding.
LUMINANCE = (19595.0, 38470.0, 7471.0)
LUMINANCE_UNIT = 1 << 16
WEIGHT_UNIT = 1 << 22  # the weight 1 of a pixel: leaves 8 bits of grey level and a sign in 32 bits


@dataclass(frozen=True)
class Preprocessing:
    """Grey conversion, resizing and normalisation. The defaults are what `hscc.training.images` does.

    Attributes
    ----------
    size : int or (int, int)
        Height and width that the network takes, in pixels; one number for a square.
    mean, std : tuple of float
        Of the network's one or three input channels, for levels scaled to 0..1; the defaults are ImageNet's.
    grey : bool
        Whether colours become one grey level, which all input channels get. False keeps red, green and blue.

    Raises
    ------
    ExportError
        If a number is out of range, or there are colours for a network of one channel.
    """

    size: int | tuple[int, int] = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    grey: bool = True

    def __post_init__(self) -> None:
        if min(sides(self.size)) < 1:
            raise ExportError(f"size is {self.size}; give the height and width in pixels that the network takes.")
        if len(self.mean) != len(self.std) or self.channels not in (1, 3) or not min(self.std) > 0:
            raise ExportError(
                f"mean is {self.mean} and std {self.std}; give one number or three in both, for each input channel of "
                "the network one, those of std above 0."
            )
        if self.channels == 1 and not self.grey:
            raise ExportError("grey is False but mean and std are of one channel; give three numbers, or grey=True.")

    @classmethod
    def of(cls, input_shape: tuple[int, ...]) -> Preprocessing:
        """Make the default for a network: ImageNet's statistics for three channels, levels of 0..1 for one.

        Parameters
        ----------
        input_shape : tuple of int
            Channels, rows, columns.

        Raises
        ------
        ExportError
            If there are neither one nor three channels, or not two axes behind them.
        """
        channels, *size = input_shape
        if len(size) != 2:
            raise ExportError(
                f"the network takes inputs of shape {input_shape}; the deployed form takes pictures, so write the bare "
                "network with hscc.export.to_onnx.write_onnx."
            )
        if channels == 3:
            return cls((size[0], size[1]))
        if channels == 1:
            return cls((size[0], size[1]), mean=(0.0,), std=(1.0,))
        raise ExportError(
            f"the network takes {channels} channels; the deployed form takes pictures, for networks of 1 or 3 channels."
        )

    @property
    def channels(self) -> int:
        """Input channels of the network."""
        return len(self.mean)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the network's input."""
        return (self.channels, *sides(self.size))

    def describe(self) -> str:
        """Say it in words, for a reader who has to do it in another language."""
        colours = "grey copied to red, green and blue"
        if self.grey:
            colours = "to grey, L = (19595 R + 38470 G + 7471 B + 32768) >> 16"
            colours += ", on all three channels" if self.channels == 3 else ""
        height, width = sides(self.size)
        size = f"{width} x {height}" if height == width else f"{height} rows x {width} columns"
        return (
            f"uint8; alpha dropped; {colours}; resized to {size} as Pillow 13 does with BILINEAR "
            "(antialiased, one axis after the other, rounded to whole levels after each); divided by 255; minus "
            f"{_listed(self.mean)}, divided by {_listed(self.std)}, channel by channel"
        )

    def prepare(self, picture: Picture) -> torch.Tensor:
        """Do it with Pillow: what the deployed forms are checked against.

        Parameters
        ----------
        picture : ndarray of uint8, shape (rows, columns) or (rows, columns, channels)
            Grey, grey and alpha, RGB, or RGB and alpha.

        Returns
        -------
        Tensor of float32, shape (1, channels, height, width)
            The network's input.
        """
        image = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
        height, width = sides(self.size)
        resized = image.convert("L" if self.grey else "RGB").resize((width, height), Image.Resampling.BILINEAR)
        levels = torch.from_numpy(np.array(resized)).view(1, height, width, -1).movedim(3, 1)
        return (levels.to(torch.float32) / 255.0 - per_channel(self.mean)) / per_channel(self.std)


class Preprocess(nn.Module):
    """Pictures to a network's input, byte for byte as Pillow does it.

    Parameters
    ----------
    preprocessing : Preprocessing
        What to do.
    """

    colours: torch.Tensor
    luminance: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.grey = preprocessing.grey
        self.resize = PillowResize(preprocessing.size)
        self.register_buffer("colours", torch.arange(3))
        self.register_buffer("luminance", torch.tensor(LUMINANCE).view(3, 1, 1, 1))
        self.register_buffer("mean", per_channel(preprocessing.mean))
        self.register_buffer("std", per_channel(preprocessing.std))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map uint8 (N, rows, columns, 1 to 4 channels) to float32 (N, channels, height, width)."""
        # One or two channels are grey and alpha: channel 0 three times. Three or four are RGB and alpha.
        source = self.colours * torch.sym_min(image.shape[3] // 3, 1)
        colours = image.movedim(3, 0).index_select(0, source)
        if self.grey:
            total = (colours.to(torch.float32) * self.luminance).sum(0) + LUMINANCE_UNIT // 2
            levels = self.resize((total / LUMINANCE_UNIT).to(torch.uint8)).unsqueeze(1)
        else:
            levels = self.resize(colours.flatten(0, 1)).unflatten(0, (3, -1)).movedim(0, 1)
        return (levels.to(torch.float32) / 255.0 - self.mean) / self.std  # type: ignore[no-any-return]


class PillowResize(nn.Module):
    """Resize planes of levels as Pillow does with BILINEAR.

    Parameters
    ----------
    size : int or (int, int)
        Height and width afterwards, in pixels; one number for a square.
    """

    middles: torch.Tensor  # of the new pixels of the longer side, in new pixels: float64

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.height, self.width = sides(size)
        self.register_buffer("middles", torch.arange(max(self.height, self.width), dtype=torch.float64) + 0.5)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, rows, columns) to uint8 (n, height, width)."""
        rows, columns = planes.shape[1:]
        # Pillow's rule since version 13; the order of the axes shows in the bytes.
        tall = (rows > self.height) & (rows - self.height > 2 * (columns - self.width))
        resized: torch.Tensor = torch.cond(tall, self._rows_first, self._columns_first, (planes,))
        return resized

    def _columns_first(self, planes: torch.Tensor) -> torch.Tensor:
        return self._last_axis(self._last_axis(planes, self.width), self.height)

    def _rows_first(self, planes: torch.Tensor) -> torch.Tensor:
        planes = self._last_axis(self._last_axis(planes.transpose(1, 2), self.height), self.width)
        return planes.transpose(1, 2).contiguous()

    def _last_axis(self, planes: torch.Tensor, size: int) -> torch.Tensor:
        """Resize the last axis and bring it forward: uint8 (n, a, b) to uint8 (n, size, a)."""
        length = planes.shape[2]
        positions, weights = self._weights(length, size)
        # Whole rows are gathered, which is cheap; a tap beyond the border weighs 0 and may read any pixel.
        taps = planes.transpose(1, 2).index_select(1, positions.clamp(max=length - 1).flatten())
        taps = taps.unflatten(1, positions.shape).to(torch.int32)
        total = (weights[:, None, :] @ taps).squeeze(2) + WEIGHT_UNIT // 2
        # Division by a power of two is exact, and the cast cuts off.
        return (total.to(torch.float64) / WEIGHT_UNIT).to(torch.uint8)  # type: ignore[no-any-return]

    def _weights(self, length: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Say which pixels of an axis each new one reads, and by what weight in 1 / 2^22: int64, int32 (size, taps)."""
        scale = torch.scalar_tensor(length, dtype=torch.float64) / size  # a plain number would be float32 in ONNX
        support = scale.clamp(min=1.0)
        middles = self.middles if size == len(self.middles) else self.middles[:size]
        centres = middles * scale
        first = (centres - support + 0.5).clamp(min=0.0).to(torch.int64)
        end = (centres + support + 0.5).to(torch.int64).clamp(max=length)
        taps = 2 * torch.sym_max((length + size - 1) // size, 1) + 1
        positions = first[:, None] + torch.arange(taps)
        distance = (positions - centres[:, None] + 0.5) * (1.0 / support)
        weights = (1.0 - distance.abs()).clamp(min=0.0).where(positions < end[:, None], 0.0)
        shares = weights / weights.sum(1, keepdim=True)
        return positions, (shares * WEIGHT_UNIT + 0.5).to(torch.int32)


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a size."""
    return (size, size) if isinstance(size, int) else size


def per_channel(values: tuple[float, ...]) -> torch.Tensor:
    """Shape one number per channel for broadcasting: float32 (1, channels, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


def _listed(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
