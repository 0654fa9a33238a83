"""Preprocessing and the whole deployed network as modules: from uint8 pictures of any size to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hscc.errors import ExportError
from hscc.export.preprocessing import Picture, PillowResize, Preprocessing, per_channel

# Pillow's weights of red, green and blue in 1 / 2^16. Every sum below 2^24, so float32 has no rounding.
_LUMINANCE = (19595.0, 38470.0, 7471.0)
_UNIT = 1 << 16


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
        self.register_buffer("luminance", torch.tensor(_LUMINANCE).view(3, 1, 1, 1))
        self.register_buffer("mean", per_channel(preprocessing.mean))
        self.register_buffer("std", per_channel(preprocessing.std))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map uint8 (N, rows, columns, 1 to 4 channels) to float32 (N, 3, size, size)."""
        # One or two channels are grey and alpha: channel 0 three times. Three or four are RGB and alpha.
        source = self.colours * torch.sym_min(image.shape[3] // 3, 1)
        colours = image.movedim(3, 0).index_select(0, source)
        if self.grey:
            total = (colours.to(torch.float32) * self.luminance).sum(0) + _UNIT // 2
            levels = self.resize((total / _UNIT).to(torch.uint8)).unsqueeze(1)
        else:
            levels = self.resize(colours.flatten(0, 1)).unflatten(0, (3, -1)).movedim(0, 1)
        return (levels.to(torch.float32) / 255.0 - self.mean) / self.std  # type: ignore[no-any-return]


class Deployed(nn.Module):
    """Preprocessing, a network and softmax as one.

    Parameters
    ----------
    network : nn.Module
        float32 (N, 3, size, size) to logits (N, classes).
    preprocessing : Preprocessing
        What it was trained behind.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocess = Preprocess(preprocessing)
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map uint8 (N, rows, columns, 1 to 4 channels) to probabilities (N, classes)."""
        return torch.softmax(self.network(self.preprocess(image)), dim=1)


def dynamic_axes() -> tuple[dict[int, torch.export.Dim]]:
    """Name the axes of the input, all of which may change from call to call."""
    names = ("batch", "rows", "columns")
    axes = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(names)}
    return ({**axes, 3: torch.export.Dim("channels", min=1, max=4)},)


def example(size: int) -> torch.Tensor:
    """Make pictures to trace with: two, of a size that no axis shares with another or with the network's input."""
    return torch.zeros(2, size + 17, size + 5, 3, dtype=torch.uint8)


Floats = npt.NDArray[np.float32]
Bare = Callable[[torch.Tensor], torch.Tensor]  # float32 (N, 3, size, size) to logits (N, classes)
Run = Callable[[Picture], Floats]  # uint8 (N, rows, columns, channels) to probabilities (N, classes)


def verify(
    run: Run, network: Bare, preprocessing: Preprocessing, pictures: Sequence[Picture], tolerance: float, path: Path
) -> float:
    """Compare the probabilities of a deployed form with those of the bare network.

    Every picture goes in alone, and together with its mirror image.

    Parameters
    ----------
    run : callable
        The deployed form.
    network : callable
        A module on the CPU in evaluation mode, or whatever else computes the same.
    preprocessing : Preprocessing
        What it was trained behind; done by Pillow here.
    pictures : sequence of ndarray of uint8
        (rows, columns) or (rows, columns, channels); drawn ones of awkward sizes are added.
    tolerance : float
        Largest difference of a probability.
    path : Path
        The file, for the message.

    Returns
    -------
    float
        The largest difference found.

    Raises
    ------
    ExportError
        If it is above `tolerance`.
    """
    largest = 0.0
    for picture in [*pictures, *drawn_pictures(preprocessing.size)]:
        pair = np.stack([picture, picture[:, ::-1]]).reshape(2, *picture.shape[:2], -1)  # uint8, contiguous
        with torch.no_grad():
            inputs = torch.cat([preprocessing.prepare(one) for one in (picture, picture[:, ::-1])])
            expected = torch.softmax(network(inputs), dim=1).numpy()
        for found, wanted in ((run(pair[:1]), expected[:1]), (run(pair), expected)):
            largest = max(largest, float(np.abs(found - wanted).max()))
            if not largest <= tolerance:
                raise ExportError(
                    f"{path}: a probability differs from the network's by {largest:.1e} (allowed {tolerance:.0e}) on a "
                    f"picture of {'x'.join(map(str, picture.shape))}; report the network as a defect."
                )
    return largest


def drawn_pictures(size: int) -> list[Picture]:
    """Draw noise that takes every path: grey and colours, with and without alpha, larger, smaller, tall, one pixel."""
    rng = np.random.default_rng(0)
    shapes = (
        (size, size),
        (1, 1),
        (2 * size + 3, size + 1, 3),  # tall: resized in height first
        (size // 2 + 1, 2 * size, 4),
        (size + 7, 2 * size + 9, 1),
        (size // 2 + 3, size // 3 + 1, 2),
    )
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
