"""Operators' arguments in the form that the program's operations have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from hscc.engine.program import Array, Triple
from hscc.engine.views import UnsupportedError, View


def channel_back(straight: View, channel: int) -> View:
    """Give a view with its channels first the order of dimensions that it had before `Values.straight`."""
    if channel % len(straight.sizes) == 1:
        return straight
    return straight.moved(straight.index().movedim(1, channel))


def as_tensor(number: Any) -> torch.Tensor:
    """A number as a tensor of float64; a tensor as it is."""
    return number if isinstance(number, torch.Tensor) else torch.tensor(float(number), dtype=torch.float64)


def constant(tensor: Any, what: str) -> Array:
    """Float32 array of a tensor that does not depend on the input; `what` names it where it does."""
    if not isinstance(tensor, torch.Tensor):
        if isinstance(tensor, np.ndarray):
            return tensor
        raise UnsupportedError(f"{what} that is computed from the input")
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)


def optional_constant(tensor: Any) -> Array | None:
    """Array of a weight that may be absent."""
    return None if tensor is None else constant(tensor, "a weight")


def bias_or_zeros(tensor: Any, outputs: int) -> Array:
    """Array of a bias, zeros where there is none."""
    return np.zeros(outputs, np.float32) if tensor is None else constant(tensor, "a bias")


def channels_last(kernels: Array) -> Array:
    """(C_out, C_in, ...) to (C_out, kd, kh, kw, C_in)."""
    taps = kernels.reshape(*kernels.shape[:2], *spatial(kernels.shape[2:]))
    return np.ascontiguousarray(taps.transpose(0, 2, 3, 4, 1))


def per_axis(number: Any, rank: int) -> list[int]:
    """One number for each of so many axes, of a number or a list."""
    if isinstance(number, int):
        return [number] * rank
    return list(number) * (rank if len(number) == 1 else 1)


def spatial(numbers: Sequence[int], missing: int = 1) -> Triple:
    """Depth, rows and columns of up to three numbers, the last of which is that of the columns."""
    return triple([*[missing] * (3 - len(numbers)), *(int(number) for number in numbers)])


def triple(numbers: Iterable[int]) -> Triple:
    """Three numbers as a tuple."""
    depth, rows, columns = numbers
    return (depth, rows, columns)
