"""A plain two-dimensional U-Net for segmentation (Ronneberger et al., 2015)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class UNet(nn.Module):
    """U-Net with batch norms and padding, so that the answer has the size of the input.

    A 1 x 1 convolution halves the channels before each nearest-neighbour upsampling by 2, where the original has a
    transposed convolution: all of its multiplications are in plain convolutions.

    Parameters
    ----------
    classes : int
        Outputs per pixel.
    width : int
        Channels at full size; doubled at each level below.
    depth : int
        Levels below full size; the input's sides must be multiples of ``2 ** depth``.

    Notes
    -----
    With the defaults it has 1.8 M parameters and 45 thousand multiply-accumulates per pixel.
    """

    def __init__(self, classes: int, width: int = 16, depth: int = 4) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _block(inputs, outputs) for inputs, outputs in zip([3, *widths], widths, strict=False)
        )
        above = list(zip(widths[1:], widths, strict=False))[::-1]
        self.halve = nn.ModuleList(nn.Conv2d(inputs, outputs, 1) for inputs, outputs in above)
        self.up = nn.ModuleList(_block(2 * outputs, outputs) for _, outputs in above)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give logits (N, classes, H, W) for images (N, 3, H, W)."""
        kept = []
        found = images
        for level, block in enumerate(self.down):
            found = block(F.max_pool2d(found, 2) if level else found)
            kept.append(found)
        for halve, block, beside in zip(self.halve, self.up, kept[-2::-1], strict=True):
            found = block(torch.cat((beside, F.interpolate(halve(found), scale_factor=2.0, mode="nearest")), dim=1))
        answer: torch.Tensor = self.head(found)
        return answer


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
