"""Pillow's bilinear resize as a network module: the same bytes, from the same whole numbers.

Neither torch's antialiased interpolation nor ONNX's Resize gives Pillow's bytes, and runtimes differ from one another;
a deployed network should read what the evaluated one read. So this is the arithmetic of Pillow 13 (its Resample.c):
weights in doubles, rounded to 22 bits after the point; sums in 32-bit integers; one axis after the other, rounded to
whole levels in between. It takes images of any size when exported.
"""

from __future__ import annotations

import torch
from torch import nn

_UNIT = 1 << 22  # the weight 1: leaves 8 bits of grey level and a sign in 32 bits


class PillowResize(nn.Module):
    """Resize planes of levels to a square.

    Parameters
    ----------
    size : int
        Pixels a side afterwards.
    """

    middles: torch.Tensor  # of the new pixels, in new pixels: float64 (size,)

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("middles", torch.arange(size, dtype=torch.float64) + 0.5)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Map uint8 (n, rows, columns) to uint8 (n, size, size)."""
        rows, columns = planes.shape[1:]
        # Pillow's rule since version 13; the order of the axes shows in the bytes.
        tall = (rows > self.size) & (rows - self.size > 2 * (columns - self.size))
        square: torch.Tensor = torch.cond(tall, self._rows_first, self._columns_first, (planes,))
        return square

    def _columns_first(self, planes: torch.Tensor) -> torch.Tensor:
        return self._last_axis(self._last_axis(planes))

    def _rows_first(self, planes: torch.Tensor) -> torch.Tensor:
        return self._last_axis(self._last_axis(planes.transpose(1, 2))).transpose(1, 2).contiguous()

    def _last_axis(self, planes: torch.Tensor) -> torch.Tensor:
        """Resize the last axis and bring it forward: uint8 (n, a, b) to uint8 (n, size, a)."""
        length = planes.shape[2]
        positions, weights = self._weights(length)
        # Whole rows are gathered, which is cheap; a tap beyond the border weighs 0 and may read any pixel.
        taps = planes.transpose(1, 2).index_select(1, positions.clamp(max=length - 1).flatten())
        taps = taps.unflatten(1, positions.shape).to(torch.int32)
        total = (weights[:, None, :] @ taps).squeeze(2) + _UNIT // 2
        # Division by a power of two is exact, and the cast cuts off.
        return (total.to(torch.float64) / _UNIT).to(torch.uint8)  # type: ignore[no-any-return]

    def _weights(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Say which pixels of an axis each new one reads, and by what weight in 1 / 2^22: int64, int32 (size, taps)."""
        scale = torch.scalar_tensor(length, dtype=torch.float64) / self.size  # a plain number would be float32 in ONNX
        support = scale.clamp(min=1.0)
        centres = self.middles * scale
        first = (centres - support + 0.5).clamp(min=0.0).to(torch.int64)
        end = (centres + support + 0.5).to(torch.int64).clamp(max=length)
        taps = 2 * torch.sym_max((length + self.size - 1) // self.size, 1) + 1
        positions = first[:, None] + torch.arange(taps)
        distance = (positions - centres[:, None] + 0.5) * (1.0 / support)
        weights = (1.0 - distance.abs()).clamp(min=0.0).where(positions < end[:, None], 0.0)
        shares = weights / weights.sum(1, keepdim=True)
        return positions, (shares * _UNIT + 0.5).to(torch.int32)
