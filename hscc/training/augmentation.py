"""Random views of a slice: a flip and a small affine motion."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

ROTATION = math.radians(10.0)  # at most, either way
SHIFT = 0.06  # of the side
ZOOM = 0.10


def augment(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Flip left to right (one in two), rotate, shift and zoom each image on its own.

    Parameters
    ----------
    images : Tensor of uint8, shape (N, S, S)
        Grey levels. What moves in from outside is black, as it is around a head.
    generator : torch.Generator
        Source of all randomness.

    Returns
    -------
    Tensor of float32, shape (N, S, S)
        Grey levels 0 to 255, bilinear.
    """
    n = images.shape[0]

    def uniform(width: float) -> torch.Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * width

    flip = (torch.rand(n, generator=generator) < 0.5).float() * -2 + 1
    angle, zoom = uniform(ROTATION), 1 + uniform(ZOOM)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    rows = torch.stack(
        (
            torch.stack((cos * flip, -sin, uniform(2 * SHIFT)), dim=1),
            torch.stack((sin * flip, cos, uniform(2 * SHIFT)), dim=1),
        ),
        dim=1,
    )
    grey = images.unsqueeze(1).to(torch.float32)
    grid = F.affine_grid(rows.to(grey.device), list(grey.shape), align_corners=False)
    return F.grid_sample(grey, grid, mode="bilinear", padding_mode="zeros", align_corners=False).squeeze(1)
