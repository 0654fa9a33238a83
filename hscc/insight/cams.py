"""Where a network finds its evidence: class-activation maps by Grad-CAM, from captum.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017:
map = sum over channels k of a_k A_k with a_k the mean over positions of d logit / d A_k. Signs are kept, so that maps
can be compared where a rectified one would be zero; pictures show the positive part, as in the paper.

`hscc predict --heatmap` explains by occlusion instead: what it runs is the deployed ONNX file, which has no gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import LayerGradCam
from rich.progress import track
from torch import nn

from hscc.errors import CompressionError

METHOD, LIBRARY = "Grad-CAM", "captum"
_ACTIVATIONS = (nn.ELU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.PReLU, nn.ReLU, nn.ReLU6, nn.SiLU)

Maps = npt.NDArray[np.float64]


class FeatureMap(NamedTuple):
    """The last feature map of a network.

    Attributes
    ----------
    layer : str
        Module path of the last convolution that puts out more than one position.
    at : str
        Module path of the activation behind it, whose outputs are mapped; the convolution itself where none follows.
    """

    layer: str
    at: str


def last_feature_map(model: nn.Module, inputs: torch.Tensor) -> FeatureMap:
    """Find the last convolution of a dense network, and the activation behind it, by running it once.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    inputs : Tensor, shape (n, C, H, W)
        Any inputs.

    Raises
    ------
    CompressionError
        If no convolution puts out a feature map.
    """
    ran: list[tuple[str, nn.Module, torch.Size]] = []
    handles = [
        module.register_forward_hook(lambda found, _, given, name=name: ran.append((name, found, given.shape)))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        with torch.inference_mode():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    maps = [index for index, (_, module, shape) in enumerate(ran) if isinstance(module, nn.Conv2d) and _is_map(shape)]
    if not maps:
        raise CompressionError(f"{type(model).__name__} has no convolution with a feature map to explain.")
    layer, _, shape = ran[maps[-1]]
    behind = [name for name, module, size in ran[maps[-1] :] if size == shape and isinstance(module, _ACTIVATIONS)]
    return FeatureMap(layer, behind[0] if behind else layer)


def grad_cam(model: nn.Module, at: str, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Maps:
    """Map the evidence for a class of each image.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    at : str
        Module whose outputs are mapped.
    batches : sequence of (Tensor, Tensor)
        Inputs (n, C, H, W) and the class to explain of each, (n,).

    Returns
    -------
    ndarray of float64, shape (N, rows, columns)
        Signed; positive where the place speaks for the class.
    """
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)  # only what lies behind the feature map needs a gradient
    explain = LayerGradCam(model, model.get_submodule(at))
    try:
        maps = [explain.attribute(inputs, target) for inputs, target in track(batches, "mapping evidence")]
    finally:
        for parameter, before in zip(model.parameters(), wanted, strict=True):
            parameter.requires_grad_(before)
    return torch.cat(maps)[:, 0].detach().double().cpu().numpy()


def _is_map(shape: torch.Size) -> bool:
    return len(shape) == 4 and shape[2] * shape[3] > 1
