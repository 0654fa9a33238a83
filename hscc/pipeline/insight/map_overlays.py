"""Masks of the dense and of a compressed network over test images, where the two differ most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from torch import nn

from hscc.networks.backbones import pick_device
from hscc.pipeline.insight.pictures import Levels, Pictures, side_by_side
from hscc.pipeline.insight.schema import MapOverlay
from hscc.pipeline.statistics.predictions import network_rows

SIDE = 420  # pixels of a panel
_HIT, _MISSED, _FALSE = (60, 190, 120), (60, 120, 255), (255, 120, 30)  # colours
_OPACITY = 0.75

Codes = npt.NDArray[np.uint8]
Classes = npt.NDArray[np.int64]


def most_changed(predictions: pd.DataFrame, dense: str, small: str, score: str, count: int) -> pd.DataFrame:
    """Find the test images whose score changed most.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Of segmentations, see `hscc.pipeline.statistics.predictions.read_predictions`.
    dense, small : str
        Names of the two networks.
    score : str
        A column of it.
    count : int
        Images, at most.

    Returns
    -------
    pandas.DataFrame
        path, dense and small (the score by either network), the largest change first; its index is the position of the
        image in the test split.
    """
    before, after = (network_rows(predictions, name) for name in (dense, small))
    found = pd.DataFrame({"path": before["path"], "dense": before[score], "small": after[score]})
    order = (found["dense"] - found["small"]).abs().sort_values(ascending=False, kind="stable").index
    return found.loc[order[:count]]


def overlay(image: Levels, codes: Codes, answer: Classes) -> Image.Image:
    """Colour the pixels of the classes but the first: found green, missed blue, found by mistake orange.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W) or (H, W, 3)
        The image.
    codes : ndarray of uint8, shape (H, W)
        Its mask, see `hscc.training.maps.MapSplit`.
    answer : ndarray of int64, shape (H, W)
        Class index of each pixel.
    """
    picture = np.array(Image.fromarray(image).convert("RGB"), dtype=np.float64)
    truth, counted = codes.astype(np.int64) - 1, codes > 0
    right = answer == truth
    for colour, pixels in (
        (_HIT, counted & right & (truth > 0)),
        (_MISSED, counted & ~right & (truth > 0)),
        (_FALSE, counted & ~right & (answer > 0) & (truth == 0)),
    ):
        picture[pixels] = (1 - _OPACITY) * picture[pixels] + _OPACITY * np.asarray(colour)
    return Image.fromarray(picture.round().astype(np.uint8))


def overlay_pictures(
    name: str,
    changed: pd.DataFrame,
    images: Sequence[Levels],
    masks: Sequence[Codes],
    inputs: Sequence[torch.Tensor],
    networks: tuple[nn.Module, nn.Module],
) -> tuple[list[MapOverlay], Pictures]:
    """Draw each image as it is, with the dense and with the compressed network's mask.

    Parameters
    ----------
    name : str
        Of the compressed network.
    changed : pandas.DataFrame
        Of `most_changed`.
    images, masks : sequence of ndarray
        As of `overlay`, in its order.
    inputs : sequence of Tensor, shape (1, channels, H, W)
        The networks' inputs.
    networks : (Module, Module)
        Dense and compressed.
    """
    rows, pictures = [], {}
    for place, (_, entry) in enumerate(changed.iterrows()):
        with torch.inference_mode():
            answers = [network(inputs[place].to(pick_device())).argmax(1)[0].cpu().numpy() for network in networks]
        panels = [Image.fromarray(images[place]).convert("RGB")]
        panels += [overlay(images[place], masks[place], answer) for answer in answers]
        picture = f"overlay-{name}-{place}.png"
        pictures[picture] = side_by_side(panels, ("image", "dense", "compressed"), SIDE)
        figures = {"dense": float(entry["dense"]), "small": float(entry["small"])}
        rows.append(MapOverlay(network=name, path=str(entry["path"]), picture=picture, **figures))
    return rows, pictures
