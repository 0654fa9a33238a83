"""Random views of images: a flip, a small affine motion, a smaller size, a mixture with another image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from hscc.networks.inputs import Batch, convert, count


@dataclass(frozen=True)
class Augmentation:
    """Largest motions, either way; half of the views are flipped left to right as well.

    Attributes
    ----------
    rotation : float
        Degrees.
    shift : float
        Share of the side.
    zoom : float
        Share of the size.
    """

    rotation: float = 10.0
    shift: float = 0.06
    zoom: float = 0.10


def augment(images: torch.Tensor, generator: torch.Generator, augmentation: Augmentation | None = None) -> torch.Tensor:
    """Flip left to right (one in two), rotate, shift and zoom each image on its own.

    Parameters
    ----------
    images : Tensor of uint8, shape (N, S, S)
        Grey levels. What moves in from outside is black, as it is around a head.
    generator : torch.Generator
        Source of all randomness.
    augmentation : Augmentation, optional
        How far; the defaults if absent.

    Returns
    -------
    Tensor of float32, shape (N, S, S)
        Grey levels 0 to 255, bilinear.
    """
    n, most = images.shape[0], augmentation or Augmentation()

    def uniform(width: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * width

    flip = (torch.rand(n, generator=generator) < 0.5).float() * -2 + 1
    angle, zoom = uniform(math.radians(most.rotation)), 1 + uniform(most.zoom)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    rows = torch.stack(
        (
            torch.stack((cos * flip, -sin, uniform(2 * most.shift)), dim=1),
            torch.stack((sin * flip, cos, uniform(2 * most.shift)), dim=1),
        ),
        dim=1,
    )
    grey = images.unsqueeze(1).to(torch.float32)
    grid = F.affine_grid(rows.to(grey.device), list(grey.shape), align_corners=False)
    return F.grid_sample(grey, grid, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(1)


def resize(images: torch.Tensor, size: int | None) -> torch.Tensor:
    """Shrink images (N, S, S) of float32 to `size` pixels per side, bilinear and free of aliases; None leaves them."""
    if size is None or size >= images.shape[-1]:
        return images
    return F.interpolate(images.unsqueeze(1), (size, size), mode="bilinear", antialias=True).squeeze(1)


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
