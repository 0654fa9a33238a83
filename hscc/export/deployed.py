"""What both deployed forms share: the network made ready, the whole as a module, and the check of what was written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hscc.errors import CompressionError, ExportError, first_line
from hscc.export.preprocessing import Picture, Preprocessing, preprocess
from hscc.export.to_onnx import exportable
from hscc.networks.inputs import one_tensor
from hscc.outputs import Outputs, Selected
from hscc.plans import Plan

Floats = npt.NDArray[np.float32]
Bare = Callable[[torch.Tensor], torch.Tensor]  # float32 (N, channels, height, width) to outputs (N, K, *positions)
Run = Callable[[Picture], Floats]  # uint8 (N, rows, columns, channels) to predictions (N, K, *positions)


def prepare(
    model: nn.Module, preprocessing: Preprocessing | None, output: Outputs | None = None
) -> tuple[nn.Module, Preprocessing, Outputs]:
    """Copy a network for export, and settle what it is deployed behind.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    preprocessing : Preprocessing, optional
        By default that of `Preprocessing.of` for the input shape of the calibration, which a compressed network keeps
        with its plan; for any other network that of 224 x 224 pixels.
    output : Outputs, optional
        What counts of the network's answer; by default as `hscc.Outputs.infer` reads it.

    Returns
    -------
    nn.Module
        On the CPU, in evaluation mode and float32; it gives one tensor, what counts of the answer.
    Preprocessing
        One that the network can run on.
    Outputs
        What the tensor is.

    Raises
    ------
    ExportError
        If the network cannot run on it, or what counts of its answer is not clear.
    """
    plan = getattr(model, "hscc_plan", None)
    calibrated = plan.input_shape if isinstance(plan, Plan) else None
    if calibrated is not None and not one_tensor(calibrated):
        raise ExportError(
            "the network takes several inputs, and the deployed form one image; export it with torch.onnx.export."
        )
    if preprocessing is None:
        preprocessing = Preprocessing() if calibrated is None else Preprocessing.of(calibrated)
    model, shape = exportable(model), preprocessing.input_shape
    hint = f"it was calibrated on {calibrated}" if calibrated else "by default it is that of a square of 224 RGB pixels"
    try:
        with torch.no_grad():
            raw = model(torch.zeros(1, *shape))
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ExportError(
            f"the network cannot run on an input of shape {shape} ({first_line(error)}); pass the Preprocessing that "
            f"it was trained behind, with its size and a mean and std for each channel ({hint})."
        ) from error
    try:
        output = output or Outputs.infer(raw)
        if output.select(raw) is not raw:
            model = Selected(model, output)
    except CompressionError as error:
        raise ExportError(str(error)) from error
    return model, preprocessing, output


class Deployed(nn.Module):
    """Preprocessing, a network and its softmax or sigmoid as one.

    Parameters
    ----------
    network : nn.Module
        float32 (N, channels, height, width), of volumes (N, channels, slices, height, width), to outputs (N, K,
        *positions).
    preprocessing : Preprocessing
        What it was trained behind.
    output : Outputs
        What the outputs are.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, output: Outputs) -> None:
        super().__init__()
        self.preprocess = preprocess(preprocessing)
        self.network, self.output = network, output

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map uint8 (N, rows, columns, 1 to 4 channels), of volumes (N, slices, rows, columns), to predictions.

        See `hscc.Outputs.predictions`, (N, K, *positions).
        """
        return self.output.predictions(self.network(self.preprocess(image)))


def dynamic_axes(preprocessing: Preprocessing) -> tuple[dict[int, torch.export.Dim]]:
    """Name the axes of the input that may change from call to call: all of them, of volumes the batch alone."""
    if preprocessing.of_volumes:
        return ({0: torch.export.Dim("batch", min=1)},)
    names = ("batch", "rows", "columns")
    axes = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(names)}
    return ({**axes, 3: torch.export.Dim("channels", min=1, max=4)},)


def example(preprocessing: Preprocessing) -> torch.Tensor:
    """Make pictures to trace with: two, of a size that no axis shares with another or with the network's input."""
    if preprocessing.of_volumes:
        return torch.zeros(2, *preprocessing.input_shape[1:], dtype=torch.uint8)
    longest = max(preprocessing.input_shape)
    return torch.zeros(2, longest + 17, longest + 5, 3, dtype=torch.uint8)


def verify(
    run: Run,
    network: Bare,
    preprocessing: Preprocessing,
    pictures: Sequence[Picture],
    tolerance: float,
    path: Path,
    output: Outputs,
) -> float:
    """Compare the predictions of a deployed form with those of the bare network.

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
        (rows, columns) or (rows, columns, channels); drawn ones of awkward sizes are added. Volumes are (slices, rows,
        columns) of the network's size.
    tolerance : float
        Largest difference of a probability; of values, relative to the largest of a picture where that is above 1.
    path : Path
        The file, for the message.
    output : Outputs
        What the network's outputs are.

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
    for picture in [*pictures, *_drawn_pictures(preprocessing)]:
        pair = np.stack([picture, picture[:, ::-1]])  # uint8, contiguous
        if not preprocessing.of_volumes:
            pair = pair.reshape(2, *picture.shape[:2], -1)
        with torch.no_grad():
            inputs = torch.cat([preprocessing.prepare(one) for one in (picture, picture[:, ::-1])])
            expected = output.predictions(network(inputs)).numpy()
        unit = max(1.0, float(np.abs(expected).max())) if output.kind == "values" else 1.0
        for found, wanted in ((run(pair[:1]), expected[:1]), (run(pair), expected)):
            largest = max(largest, float(np.abs(found - wanted).max()) / unit)
            if not largest <= tolerance:
                named = "value" if output.kind == "values" else "probability"
                raise ExportError(
                    f"{path}: a {named} differs from the network's by {largest:.1e} (allowed {tolerance:.0e}) on a "
                    f"picture of {'x'.join(map(str, picture.shape))}; report the network as a defect."
                )
    return largest


def _drawn_pictures(preprocessing: Preprocessing) -> list[Picture]:
    """Draw noise that takes every path: grey and colours, with and without alpha, larger, smaller, tall, one pixel."""
    rng = np.random.default_rng(0)
    if preprocessing.of_volumes:
        return [rng.integers(0, 256, preprocessing.input_shape[1:], dtype=np.uint8) for _ in range(2)]
    _, height, width = preprocessing.input_shape
    shapes = (
        (height, width),
        (1, 1),
        (2 * height + 3, width + 1, 3),  # tall: resized in height first
        (height // 2 + 1, 2 * width, 4),
        (height + 7, 2 * width + 9, 1),
        (height // 2 + 3, width // 3 + 1, 2),
    )
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
