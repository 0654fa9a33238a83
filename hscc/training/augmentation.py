"""Random views of images: a flip, a small affine motion, a smaller size, a mixture with another image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from hscc.networks.inputs import Batch, convert, count


@dataclass(frozen=True)
class Augmentation:
    """Largest motions, either way, and flips of half of the views.

    Attributes
    ----------
    rotation : float
        Degrees.
    shift : float
        Share of the side.
    zoom : float
        Share of the size.
    flip, flip_up_down : bool
        Left to right; top to bottom.
    outside : {"black", "edge"}
        What moves in from outside: black, or the border repeated.
    """

    rotation: float = 10.0
    shift: float = 0.06
    zoom: float = 0.10
    flip: bool = True
    flip_up_down: bool = False
    outside: Literal["black", "edge"] = "black"


def augment(
    images: torch.Tensor,
    generator: torch.Generator,
    augmentation: Augmentation | None = None,
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> torch.Tensor:
    """Flip (one in two), rotate, shift and zoom each image on its own.

    Parameters
    ----------
    images : Tensor of uint8, shape (N, S, S) or (N, S, S, 3)
        Grey levels, or red, green and blue.
    generator : torch.Generator
        Source of all randomness.
    augmentation : Augmentation, optional
        How far; the defaults if absent.
    mode : {"bilinear", "nearest"}
        Between pixels: "nearest" for masks, whose levels are names.

    Returns
    -------
    Tensor of float32, shape as `images`
        Levels 0 to 255.
    """
    n, most = images.shape[0], augmentation or Augmentation()

    def uniform(width: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * width

    def flips() -> torch.Tensor:
        return (torch.rand(n, generator=generator) < 0.5).float() * -2 + 1

    flip = flips() if most.flip else torch.ones(n)
    angle, zoom = uniform(math.radians(most.rotation)), 1 + uniform(most.zoom)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    across, down = uniform(2 * most.shift), uniform(2 * most.shift)
    over = flips() if most.flip_up_down else torch.ones(n)
    rows = torch.stack(
        (torch.stack((cos * flip, -sin * over, across), dim=1), torch.stack((sin * flip, cos * over, down), dim=1)),
        dim=1,
    )
    levels = channels_first(images).to(torch.float32)
    grid = F.affine_grid(rows.to(levels.device), list(levels.shape), align_corners=False)
    padding = "zeros" if most.outside == "black" else "border"
    return _as_images(F.grid_sample(levels, grid, mode=mode, padding_mode=padding, align_corners=False), images)


def resize(images: torch.Tensor, size: int | None) -> torch.Tensor:
    """Shrink images of float32 to `size` pixels per side, bilinear and free of aliases; None leaves them.

    Takes (N, S, S) or (N, S, S, 3) and returns as many dimensions.
    """
    if size is None or size >= images.shape[2]:
        return images
    return _as_images(F.interpolate(channels_first(images), (size, size), mode="bilinear", antialias=True), images)


def channels_first(images: torch.Tensor) -> torch.Tensor:
    """Turn (N, S, S) into (N, 1, S, S) and (N, S, S, 3) into (N, 3, S, S)."""
    return images.unsqueeze(1) if images.ndim == 3 else images.movedim(3, 1)


def _as_images(levels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Undo `channels_first`."""
    return levels.squeeze(1) if like.ndim == 3 else levels.movedim(1, 3)


def mix(inputs: Batch, generator: torch.Generator, alpha: float) -> Batch:
    """Mix each input with another one of its batch: w a + (1 - w) b, w from Beta(alpha, alpha) (Zhang et al., 2018).

    Parameters
    ----------
    inputs : Tensor, shape (N, ...), or a tuple or dict of them
        Network inputs; several inputs of one image are mixed with the same weights.
    generator : torch.Generator
        Source of all randomness.
    alpha : float
        Positive; 1 draws uniform weights.
    """
    images = count(inputs)
    order = torch.randperm(images, generator=generator)
    seed = int(torch.randint(2**31, (1,), generator=generator))
    weights = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, images))

    def mixed(tensor: torch.Tensor) -> torch.Tensor:
        return torch.lerp(
            tensor[order.to(tensor.device)], tensor, weights.to(tensor).view(-1, *[1] * (tensor.ndim - 1))
        )

    return convert(inputs, mixed)
