"""What happens to a picture or volume before a network sees it: the numbers, in words, by Pillow, and as a module.

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
    size : int or (int, int) or (int, int, int)
        Height and width that the network takes, in pixels; one number for a square. Three numbers are slices, rows and
        columns of a volume, which is not resized: it must have this size already.
    mean, std : tuple of float
        Of the network's one or three input channels, for levels scaled to 0..1; the defaults are ImageNet's.
    grey : bool
        Whether colours become one grey level, which all input channels get. False keeps red, green and blue.

    Raises
    ------
    ExportError
        If a number is out of range, or there are colours for a network of one channel.
    """

    size: int | tuple[int, int] | tuple[int, int, int] = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    grey: bool = True

    def __post_init__(self) -> None:
        if min(self.input_shape[1:]) < 1:
            raise ExportError(f"size is {self.size}; give the height and width in pixels that the network takes.")
        if len(self.mean) != len(self.std) or self.channels not in (1, 3) or not min(self.std) > 0:
            raise ExportError(
                f"mean is {self.mean} and std {self.std}; give one number or three in both, for each input channel of "
                "the network one, those of std above 0."
            )
        if self.channels == 1 and not self.grey:
            raise ExportError("grey is False but mean and std are of one channel; give three numbers, or grey=True.")
        if self.of_volumes and not self.grey:
            raise ExportError("grey is False but the size is of volumes, which are grey; give two sides, or grey=True.")

    @classmethod
    def of(cls, input_shape: tuple[int, ...]) -> Preprocessing:
        """Make the default for a network: ImageNet's statistics for three channels, levels of 0..1 for one.

        Parameters
        ----------
        input_shape : tuple of int
            Channels, rows, columns; of volumes channels, slices, rows, columns.

        Raises
        ------
        ExportError
            If there are neither one nor three channels, or neither two nor three axes behind them.
        """
        channels, *size = input_shape
        if len(size) not in (2, 3):
            raise ExportError(
                f"the network takes inputs of shape {input_shape}; the deployed form takes pictures or volumes, so "
                "write the bare network with hscc.export.to_onnx.write_onnx."
            )
        if channels not in (1, 3):
            raise ExportError(
                f"the network takes {channels} channels; the deployed form takes pictures or volumes, for networks of "
                "1 or 3 channels."
            )
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.0,), (1.0,))
        return cls((size[0], size[1]) if len(size) == 2 else (size[0], size[1], size[2]), mean, std)

    @property
    def channels(self) -> int:
        """Input channels of the network."""
        return len(self.mean)

    @property
    def of_volumes(self) -> bool:
        """Whether the network takes volumes."""
        return not isinstance(self.size, int) and len(self.size) == 3

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Channels, rows and columns of the network's input; of volumes channels, slices, rows and columns."""
        return (self.channels, *((self.size, self.size) if isinstance(self.size, int) else self.size))

    def describe(self) -> str:
        """Say it in words, for a reader who has to do it in another language."""
        normalised = f"divided by 255; minus {_listed(self.mean)}, divided by {_listed(self.std)}, channel by channel"
        if self.of_volumes:
            size = " x ".join(map(str, self.input_shape[1:]))
            return f"uint8 levels of {size} voxels (slices, rows, columns), scaled and resized before; {normalised}"
        colours = "grey copied to red, green and blue"
        if self.grey:
            colours = "to grey, L = (19595 R + 38470 G + 7471 B + 32768) >> 16"
            colours += ", on all three channels" if self.channels == 3 else ""
        _, height, width = self.input_shape
        size = f"{width} x {height}" if height == width else f"{height} rows x {width} columns"
        return (
            f"uint8; alpha dropped; {colours}; resized to {size} as Pillow 13 does with BILINEAR "
            f"(antialiased, one axis after the other, rounded to whole levels after each); {normalised}"
        )

    def prepare(self, picture: Picture) -> torch.Tensor:
        """Do it with Pillow: what the deployed forms are checked against.

        Parameters
        ----------
        picture : ndarray of uint8, shape (rows, columns) or (rows, columns, channels)
            Grey, grey and alpha, RGB, or RGB and alpha; or a volume, (slices, rows, columns).

        Returns
        -------
        Tensor of float32, shape (1, channels, height, width) or (1, channels, slices, height, width)
            The network's input.

        Raises
        ------
        ExportError
            If a volume has another size.
        """
        if self.of_volumes:
            if picture.shape != self.input_shape[1:]:
                raise ExportError(
                    f"the network takes volumes of {self.input_shape[1:]} voxels, not {picture.shape}; resize it."
                )
            return self._normalised(torch.from_numpy(np.ascontiguousarray(picture))[None, None])
        image = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
        _, height, width = self.input_shape
        resized = image.convert("L" if self.grey else "RGB").resize((width, height), Image.Resampling.BILINEAR)
        levels = torch.from_numpy(np.array(resized)).view(1, height, width, -1).movedim(3, 1)
        return self._normalised(levels)

    def _normalised(self, levels: torch.Tensor) -> torch.Tensor:
        mean, std = (per_channel(values, levels.ndim - 2) for values in (self.mean, self.std))
        return (levels.to(torch.float32) / 255.0 - mean) / std


def preprocess(preprocessing: Preprocessing) -> nn.Module:
    """Make the module that turns pictures or volumes into a network's input."""
    return PreprocessVolumes(preprocessing) if preprocessing.of_volumes else Preprocess(preprocessing)


class PreprocessVolumes(nn.Module):
    """Volumes of the network's size to its input.

    Parameters
    ----------
    preprocessing : Preprocessing
        Of volumes.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.register_buffer("mean", per_channel(preprocessing.mean, 3))
        self.register_buffer("std", per_channel(preprocessing.std, 3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map uint8 (N, slices, rows, columns) to float32 (N, channels, slices, rows, columns)."""
        levels = image.unsqueeze(1).to(torch.float32)
        return (levels / 255.0 - self.mean) / self.std


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
        _, height, width = preprocessing.input_shape
        self.resize = PillowResize((height, width))
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
        self.height, self.width = (size, size) if isinstance(size, int) else size
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


def per_channel(values: tuple[float, ...], axes: int = 2) -> torch.Tensor:
    """Shape one number per channel for broadcasting: float32 (1, channels, 1, 1), or with as many axes as asked for."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, *[1] * axes)


def _listed(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
