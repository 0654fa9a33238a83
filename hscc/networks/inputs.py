"""What a network is given at once: one tensor, several by position, or several by keyword; and its shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import nn

from hscc.errors import CompressionError

Batch: TypeAlias = torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor]
Shape: TypeAlias = tuple[int, ...]
InputShape: TypeAlias = Shape | tuple[Shape, ...] | dict[str, Shape]


def run(model: nn.Module, batch: Batch) -> Any:
    """Call a network: ``model(batch)``, ``model(*batch)`` or ``model(**batch)``."""
    if isinstance(batch, torch.Tensor):
        return model(batch)
    return model(**batch) if isinstance(batch, Mapping) else model(*batch)


def check_batch(batch: Any) -> Batch:
    """Return a batch as a tensor (also one in a tuple of its own), a tuple or a dict.

    Raises
    ------
    CompressionError
        If it holds anything but float tensors of equal length, or NaN.
    """
    if isinstance(batch, Mapping):
        batch = dict(batch)
    elif isinstance(batch, list | tuple):
        batch = batch[0] if len(batch) == 1 else tuple(batch)
    tensors = list(_tensors(batch))
    if (
        not tensors
        or not all(isinstance(tensor, torch.Tensor) and tensor.is_floating_point() for tensor in tensors)
        or any(tensor.ndim < 1 or len(tensor) != len(tensors[0]) for tensor in tensors)
        or (isinstance(batch, torch.Tensor) and batch.ndim < 2)
    ):
        raise CompressionError(
            "calibration images must be float tensors of shape (N, C, H, W), or tuples or dicts of the float tensors "
            "that the network takes; pass the network's inputs without labels."
        )
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        raise CompressionError("calibration images hold NaN or infinity; remove or fix them.")
    return batch  # type: ignore[no-any-return]


def count(batch: Batch) -> int:
    """Images in a batch."""
    return len(next(_tensors(batch)))


def parts(batch: Batch, size: int) -> Iterator[Batch]:
    """Split a batch into some of at most `size` images."""
    for first in range(0, count(batch), size):
        yield convert(batch, lambda tensor, first=first: tensor[first : first + size])  # type: ignore[misc]


def convert(batch: Batch, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    """Apply a function to each tensor."""
    if isinstance(batch, torch.Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {name: function(tensor) for name, tensor in batch.items()}
    return tuple(function(tensor) for tensor in batch)


def as_input(model: nn.Module, batch: Batch) -> Batch:
    """Copy a batch to a network's device and dtype: the network may overwrite its input."""
    like = _like(model)
    return convert(batch, lambda tensor: tensor.to(like.device, like.dtype, copy=True))


def varies(batch: Batch) -> bool:
    """Whether any image is more than one constant."""
    flat = [tensor.flatten(1) for tensor in _tensors(batch) if tensor.ndim > 1]
    return any(bool((rows.amax(1) > rows.amin(1)).any()) for rows in flat)


def input_shape_of(batch: Batch) -> InputShape:
    """Shapes without the number of images: of one tensor, a tuple of these, or a dict of them."""
    if isinstance(batch, torch.Tensor):
        return tuple(batch.shape[1:])
    if isinstance(batch, Mapping):
        return {name: tuple(tensor.shape[1:]) for name, tensor in batch.items()}
    return tuple(tuple(tensor.shape[1:]) for tensor in batch)


def one_tensor(shape: InputShape) -> TypeGuard[Shape]:
    """Whether it is the shape of a network with one input by position."""
    return isinstance(shape, tuple) and all(isinstance(size, int) for size in shape)


def as_shape(value: Any) -> InputShape:
    """Turn JSON's lists into the form of `input_shape_of`."""
    if isinstance(value, Mapping):
        return {str(name): tuple(shape) for name, shape in value.items()}
    return tuple(tuple(item) if isinstance(item, list) else item for item in value)


def zeros(model: nn.Module, shape: InputShape, images: int = 1) -> Batch:
    """Return a batch of zeros that a network could be given, on its device and in its dtype."""
    like = _like(model)
    if isinstance(shape, dict):
        return {name: like.new_zeros(images, *sizes) for name, sizes in shape.items()}
    if one_tensor(shape):
        return like.new_zeros(images, *shape)
    return tuple(like.new_zeros(images, *sizes) for sizes in shape)  # type: ignore[misc]


def _like(model: nn.Module) -> torch.Tensor:
    return next(model.parameters(), torch.empty(0))


def _tensors(batch: Batch) -> Iterator[torch.Tensor]:
    if isinstance(batch, Mapping):
        return iter(batch.values())
    return iter([batch] if isinstance(batch, torch.Tensor) else batch)
