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
    flip, flip_up_down, flip_depth : bool
        Left to right; top to bottom; first to last slice of a volume.
    outside : {"black", "edge"}
        What moves in from outside: black, or the border repeated.
    """

    rotation: float = 10.0
    shift: float = 0.06
    zoom: float = 0.10
    flip: bool = True
    flip_up_down: bool = False
    outside: Literal["black", "edge"] = "black"
    flip_depth: bool = False


def augment(
    images: torch.Tensor,
    generator: torch.Generator,
    augmentation: Augmentation | None = None,
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> torch.Tensor:
    """Flip (one in two), rotate, shift and zoom each image on its own.

    A volume is rotated about each of its axes, by angles drawn independently.

    Parameters
    ----------
    images : Tensor of uint8, shape (N, H, W), (N, H, W, 3) or (N, D, H, W)
        Grey levels; red, green and blue; or grey volumes.
    generator : torch.Generator
        Source of all randomness.
    augmentation : Augmentation, optional
        How far; the defaults if absent.
    mode : {"bilinear", "nearest"}
        Between pixels: "nearest" for masks, whose levels are names.

    Returns
    -------
    Tensor of float32, shape as `images`
        Levels 0 to 255; with "bilinear" (tri)linear between pixels.
    """
    most = augmentation or Augmentation()
    levels = channels_first(images).to(torch.float32)
    draw = _Draw(len(levels), generator)
    motions = _motions_of_volumes(draw, most) if levels.ndim == 5 else _motions(draw, most)
    sides = torch.tensor(levels.shape[:1:-1], dtype=torch.float32)  # the maps are in units of half a side
    motions[:, :, :-1] *= sides / sides[:, None]
    grid = F.affine_grid(motions.to(levels.device), list(levels.shape), align_corners=False)
    padding = "zeros" if most.outside == "black" else "border"
    return _as_images(F.grid_sample(levels, grid, mode=mode, padding_mode=padding, align_corners=False), images)


@dataclass(frozen=True)
class _Draw:
    """Random numbers, one per image."""

    count: int
    generator: torch.Generator

    def uniform(self, width: float) -> torch.Tensor:
        return (torch.rand(self.count, generator=self.generator) * 2 - 1) * width

    def flips(self, wanted: bool) -> torch.Tensor:
        """Draw -1 or 1 where flips are wanted, else give 1 and draw nothing."""
        if not wanted:
            return torch.ones(self.count)
        return (torch.rand(self.count, generator=self.generator) < 0.5).float() * -2 + 1


def _motions(draw: _Draw, most: Augmentation) -> torch.Tensor:
    """Affine maps of pictures as `torch.nn.functional.affine_grid` takes them, (N, 2, 3)."""
    flip = draw.flips(most.flip)
    angle, zoom = draw.uniform(math.radians(most.rotation)), 1 + draw.uniform(most.zoom)
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    across, down = draw.uniform(2 * most.shift), draw.uniform(2 * most.shift)
    over = draw.flips(most.flip_up_down)
    return torch.stack(
        (torch.stack((cos * flip, -sin * over, across), dim=1), torch.stack((sin * flip, cos * over, down), dim=1)),
        dim=1,
    )


def _motions_of_volumes(draw: _Draw, most: Augmentation) -> torch.Tensor:
    """Affine maps of volumes as `torch.nn.functional.affine_grid` takes them, (N, 3, 4): axes x, y, z."""
    flips = torch.stack([draw.flips(wanted) for wanted in (most.flip, most.flip_up_down, most.flip_depth)], dim=1)
    turned = torch.eye(3).expand(draw.count, 3, 3)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = draw.uniform(math.radians(most.rotation))
        plane = torch.eye(3).repeat(draw.count, 1, 1)
        plane[:, first, first] = plane[:, second, second] = torch.cos(angle)
        plane[:, first, second], plane[:, second, first] = -torch.sin(angle), torch.sin(angle)
        turned = turned @ plane
    zoom = 1 + draw.uniform(most.zoom)
    shift = torch.stack([draw.uniform(2 * most.shift) for _ in range(3)], dim=1)
    return torch.cat((turned * flips[:, None, :] / zoom[:, None, None], shift[:, :, None]), dim=2)


def resize(images: torch.Tensor, size: int | None) -> torch.Tensor:
    """Shrink images of float32 to a longest side of `size` pixels, free of aliases; None leaves them.

    Pictures are resized bilinearly, volumes by means over boxes. Takes (N, H, W), (N, H, W, 3) or (N, D, H, W) and
    returns as many dimensions.
    """
    levels = channels_first(images)
    longest = max(levels.shape[2:])
    if size is None or size >= longest:
        return images
    sides = [max(1, round(side * size / longest)) for side in levels.shape[2:]]
    if len(sides) == 3:
        return _as_images(F.adaptive_avg_pool3d(levels, (sides[0], sides[1], sides[2])), images)
    return _as_images(F.interpolate(levels, sides, mode="bilinear", antialias=True), images)


def channels_first(images: torch.Tensor) -> torch.Tensor:
    """Turn (N, H, W) into (N, 1, H, W), (N, H, W, 3) into (N, 3, H, W) and (N, D, H, W) into (N, 1, D, H, W).

    Of four axes the last one tells colours from volumes: no volume is 3 voxels wide.
    """
    return images.movedim(3, 1) if _in_colour(images) else images.unsqueeze(1)


def _as_images(levels: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Undo `channels_first`."""
    return levels.movedim(1, 3) if _in_colour(like) else levels.squeeze(1)


def _in_colour(images: torch.Tensor) -> bool:
    return images.ndim == 4 and images.shape[3] == 3


def per_channel(values: tuple[float, ...], axes: int) -> torch.Tensor:
    """Shape one number per channel for inputs with so many axes behind the channels: (1, channels, 1, ...)."""
    return torch.tensor(values).view(1, -1, *[1] * axes)


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
