"""A tiny network with the odd shapes of real ones, and images with structure in space and channels."""

from __future__ import annotations

import torch
from torch import nn


def tiny_network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(24, 24, 3, padding=1, bias=False),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(24 * 9, 32),
        nn.ReLU(inplace=True),
        nn.Linear(32, 4),
    )
    return network.to(dtype).eval()


def tiny_images(count: int = 48, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(count, 3, 6, 6, generator=generator, dtype=torch.float64)
    images = nn.functional.interpolate(coarse, size=(18, 18), mode="bilinear")
    images[:, :, :4, :4] = -1.0  # a black corner
    return images.to(dtype)
