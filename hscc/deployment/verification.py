"""Hold a deployed form against the bare network behind Pillow, picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hscc.deployment.preprocessing import Picture, Preprocessing
from hscc.errors import ExportError

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
