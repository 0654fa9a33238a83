"""Which parts of an image are evidence for a class: Grad-CAM maps, computed by captum.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017:
map = sum over channels k of a_k A_k with a_k the mean over positions of d logit / d A_k. Signs are kept, so that maps
can be compared where a rectified one would be zero; pictures show the positive part, as in the paper.

`hscc predict --heatmap` explains by occlusion instead: what it runs is the deployed ONNX file, which has no gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import LayerGradCam
from rich.progress import track
from torch import nn

from hscc.errors import CompressionError
from hscc.pipeline.insight.pictures import Levels, Pictures, glow_over, plain, side_by_side
from hscc.pipeline.insight.schema import MapPicture
from hscc.pipeline.insight.similarity import Maps, Scores, pearson

METHOD, LIBRARY = "Grad-CAM", "captum"
MEDIAN, LEAST = "median", "least similar"
_SIDE = 168  # pixels of a panel; three fit a phone
_ACTIVATIONS = (nn.ELU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.PReLU, nn.ReLU, nn.ReLU6, nn.SiLU)

Ints = npt.NDArray[np.int64]


class FeatureMap(NamedTuple):
    """The last feature map of a network.

    Attributes
    ----------
    layer : str
        Module path of the last convolution that puts out more than one position.
    at : str
        Module path of the activation that follows it, whose outputs are mapped; the convolution itself where none
        does.
    """

    layer: str
    at: str


def last_feature_map(model: nn.Module, inputs: torch.Tensor) -> FeatureMap:
    """Find the last convolution of a dense network, and the activation that follows it, by running it once.

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
    maps = [
        index
        for index, (_, module, shape) in enumerate(ran)
        if isinstance(module, nn.Conv2d | nn.Conv3d) and _is_map(shape)
    ]
    if not maps:
        raise CompressionError(f"{type(model).__name__} has no convolution with a feature map to explain.")
    layer, _, shape = ran[maps[-1]]
    following = [name for name, module, size in ran[maps[-1] :] if size == shape and isinstance(module, _ACTIVATIONS)]
    return FeatureMap(layer, following[0] if following else layer)


def grad_cam(model: nn.Module, at: str, batches: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Maps:
    """Map the evidence for a class of each image.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode.
    at : str
        Module whose outputs are mapped.
    batches : sequence of (Tensor, Tensor)
        Inputs (n, C, H, W) or (n, C, D, H, W) and the class to explain of each, (n,).

    Returns
    -------
    ndarray of float64, shape (N, rows, columns)
        Signed; positive where the position is evidence for the class. Of volumes the mean over the slices.
    """
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    model.requires_grad_(False)  # only what follows the feature map needs a gradient
    explain = LayerGradCam(model, model.get_submodule(at))
    try:
        maps = [explain.attribute(inputs, target) for inputs, target in track(batches, "mapping evidence")]
    finally:
        for parameter, before in zip(model.parameters(), wanted, strict=True):
            parameter.requires_grad_(before)
    found = torch.cat(maps)[:, 0].detach().double()
    return (found.mean(dim=1) if found.ndim == 4 else found).cpu().numpy()


def _is_map(shape: torch.Size) -> bool:
    return len(shape) in (4, 5) and math.prod(shape[2:]) > 1


def examples(similarity: Scores, labels: Ints) -> list[tuple[int, str]]:
    """Pick the images to show.

    Parameters
    ----------
    similarity : ndarray of float64, shape (N,)
        Of the two networks' maps; NaN is never picked.
    labels : ndarray of int64, shape (N,)
        Class indices.

    Returns
    -------
    list of (int, str)
        Position and kind, of each class the median image and, where there is another, the least similar one.
    """
    picked = []
    for label in np.unique(labels):
        members = np.flatnonzero((labels == label) & np.isfinite(similarity))
        order = members[np.argsort(similarity[members], kind="stable")]
        if order.size:
            picked.append((int(order[len(order) // 2]), MEDIAN))
        if order.size > 1:
            picked.append((int(order[0]), LEAST))
    return picked


@dataclass(frozen=True)
class Answers:
    """An image of the test split, and the classes that both networks give it."""

    path: str
    label: str
    dense: str
    small: str


def cam_pictures(
    network: str,
    images: Sequence[Levels],
    chosen: Sequence[tuple[int, str]],
    dense: Maps,
    small: Maps,
    answers: Sequence[Answers],
    caption: str = "image",
) -> tuple[list[MapPicture], Pictures]:
    """Draw image, dense network's map and compressed network's map of some images side by side.

    Parameters
    ----------
    network : str
        Name of the compressed one.
    images : sequence of ndarray of uint8, shape (H, W), (H, W, 3) or (D, H, W)
        The images of `chosen`.
    chosen : sequence of (int, str)
        From `examples`.
    dense, small : ndarray of float64, shape (N, rows, columns)
        Maps of all N images.
    answers : sequence of Answers
        Of the images of `chosen`.
    caption : str
        What an image is called.

    Returns
    -------
    rows : list of MapPicture
        One per image.
    pictures : dict of str to Image
        By file name.
    """
    rows, pictures = [], {}
    for number, ((position, kind), image, answer) in enumerate(zip(chosen, images, answers, strict=True), 1):
        name = f"cam-{network}-{number}.png"
        panels = [plain(image)] + [glow_over(image, maps[position]) for maps in (dense, small)]
        pictures[name] = side_by_side(panels, (caption, "dense", "compressed"), _SIDE)
        rows.append(
            MapPicture(
                network=network,
                path=answer.path,
                label=answer.label,
                dense_predicted=answer.dense,
                small_predicted=answer.small,
                similarity=round(float(pearson(dense[[position]], small[[position]])[0]), 4),
                example=kind,
                picture=name,
            )
        )
    return rows, pictures
