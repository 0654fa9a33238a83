"""Operators that move numbers, and operators that do nothing at inference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from hscc.engine.lowering.registry import Result, lowers
from hscc.engine.views import UnsupportedError, Values, View

_MOVING = (
    "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int", "permute.default",
    "transpose.int", "t.default", "squeeze.default", "squeeze.dim", "squeeze.dims", "unsqueeze.default", "slice.Tensor",
    "select.int", "narrow.default", "split.Tensor", "split.sizes", "split_with_sizes.default", "chunk.default",
    "tensor_split.sections", "unbind.int", "expand.default", "expand_as.default", "flip.default", "roll.default",
    "repeat.default", "index_select.default", "pixel_shuffle.default", "pixel_unshuffle.default",
    "channel_shuffle.default", "movedim.int", "movedim.intlist", "swapaxes.default", "swapdims.default", "mT.default",
    "unsafe_split.Tensor", "unsafe_chunk.default", "view_as.default", "reshape_as.default", "hsplit.int",
    "index.Tensor", "narrow.Tensor",
)  # fmt: skip


_RESHAPING = (
    "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int", "squeeze.default",
    "squeeze.dim", "squeeze.dims", "unsqueeze.default", "view_as.default", "reshape_as.default",
)  # fmt: skip


_SAME = (
    "contiguous.default", "clone.default", "detach.default", "alias.default", "lift_fresh_copy.default",
    "type_as.default", "positive.default",
)  # fmt: skip


def moves(name: str) -> bool:
    """Whether an operator only moves numbers."""
    return name in _MOVING


def moved(
    name: str, operator: Callable[..., Any], sizes: Any, view: View, args: Sequence[Any], kwargs: dict[str, Any]
) -> Result:  # fmt: skip
    """Apply such an operator to the places of a view."""
    if name in _RESHAPING:  # on what is not contiguous a view would fail
        if view.places is None:
            return View(view.value, sizes)
        return view.moved(view.places.reshape(sizes))
    plain = [argument.index() if isinstance(argument, View) else argument for argument in args]
    if name == "index.Tensor" and any(isinstance(index, View) for index in args[0]):
        raise UnsupportedError("with an index that is computed from the input")
    result = operator(view.index(), *plain, **kwargs)
    if isinstance(result, torch.Tensor):
        return view.moved(result)
    return [view.moved(part) for part in result]


@lowers(*_SAME)
def _same(values: Values, sizes: Sequence[int], given: View, *args: Any, **options: Any) -> View:
    return given


@lowers("dropout.default", "feature_dropout.default", "alpha_dropout.default")
def _dropout(values: Values, sizes: Sequence[int], given: View, rate: float, train: bool) -> View:
    if train and rate:
        raise UnsupportedError("that is active in evaluation mode")
    return given


@lowers("_to_copy.default", "to.dtype", "to.device", "to.dtype_layout")
def _converted(values: Values, sizes: Sequence[int], given: View, *args: Any, **options: Any) -> View:
    for wanted in (*args, *options.values()):
        if isinstance(wanted, torch.dtype) and not wanted.is_floating_point:
            raise UnsupportedError(f"a conversion to {wanted}")
    return given
