"""Operations on each number of views: activations, scales and shifts, two views joined."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from hscc.engine.lowering.arguments import channel_back
from hscc.engine.program import Activation, Affine, Binary, Operation, Shape
from hscc.engine.views import UnsupportedError, Values, View


def activated(values: Values, given: View, activation: Activation) -> View:
    """Apply an activation; the order of the numbers is of no matter to it."""
    return on_each(values, given, lambda value, output: Affine((value,), output, activation=activation))


def on_each(values: Values, given: View, make: Callable[[int, int], Operation]) -> View:
    """Append an operation on each number: of the whole value, unless the view reads only a part of it.

    Parameters
    ----------
    make : callable
        From the numbers of the value read and the value written to the operation.
    """
    shape = values.shape(given)
    if given.places is not None and math.prod(given.sizes[1:]) < shape.size:
        given = _in_order(values, given)
        shape = values.shape(given)
    output = values.program.value(shape)
    values.add(make(given.value, output))
    return View(output, given.sizes, given.places)


def _in_order(values: Values, given: View) -> View:
    """Make a value of a view that reads only a part of one, where that can be done."""
    for channel in (1, -1):
        try:
            return channel_back(values.straight(given, channel), channel)
        except UnsupportedError:
            continue
    return given


def covers(view: View, sizes: Sequence[int]) -> bool:
    """Whether a view has the sizes of a result, so that it is not repeated."""
    return tuple(view.sizes) == tuple(sizes)


def joined(values: Values, sizes: Sequence[int], a: View, b: View, which: str) -> View:
    """Join two views number by number; one of them may be repeated over positions, or over channels."""
    if not covers(a, sizes):
        if not covers(b, sizes) or which not in ("add", "mul", "max", "min"):
            raise UnsupportedError(f"{which} of shapes {a.sizes} and {b.sizes}")
        a, b = b, a
    shape = values.shape(a)
    alike = a.sizes == b.sizes and shape == values.shape(b)
    if alike and (a.places is b.places or torch.equal(a.index(), b.index())) and math.prod(sizes[1:]) == shape.size:
        output = values.program.value(shape)
        values.add(Binary((a.value, b.value), output, which))
        return View(output, a.sizes, a.places)
    if len(a.sizes) != len(b.sizes):
        raise UnsupportedError(f"{which} of shapes {a.sizes} and {b.sizes}")
    problem = UnsupportedError(f"{which} of shapes {a.sizes} and {b.sizes}")
    for channel in (1, len(sizes) - 1):
        try:
            first, second = values.straight(a, channel), values.straight(b, channel)
        except UnsupportedError as error:
            problem = error
            continue
        shape, other = values.shape(first), values.shape(second)
        if other == Shape(1):
            second = values.straight(second.moved(second.index().expand(-1, shape.channels, *second.sizes[2:])))
            other = values.shape(second)
        if other in (shape, Shape(shape.channels), Shape(1, *shape.grid)):
            result = values.new(first.sizes)
            values.add(Binary((first.value, second.value), result.value, which))
            return channel_back(result, channel)
    raise problem


def times(values: Values, given: View, factor: float) -> View:
    """Multiply by a number."""
    return given if factor == 1 else scaled_and_shifted(values, given, float(factor), None)


def scaled_and_shifted(values: Values, given: View, scale: float | None, shift: float | None) -> View:
    """Multiply by a number and add another."""

    def make(value: int, output: int) -> Affine:
        channels = values.program.values[value].channels
        scales, shifts = (None if n is None else np.full(channels, n, np.float32) for n in (scale, shift))
        return Affine((value,), output, scales, shifts)

    return on_each(values, given, make)


def with_constant(values: Values, given: View, scale: torch.Tensor | None, shift: torch.Tensor | None) -> View:
    """Multiply by a constant and add another: of one number, or one per channel."""
    present = [constant for constant in (scale, shift) if constant is not None]
    if all(constant.numel() == 1 for constant in present):
        numbers = [None if constant is None else float(constant) for constant in (scale, shift)]
        return scaled_and_shifted(values, given, *numbers)
    channels = {_varying(constant, given) for constant in present if constant.numel() > 1}
    if len(channels) > 1:
        raise UnsupportedError("constants along different dimensions")
    (channel,) = channels
    size = given.sizes[channel]
    vectors = [
        None if constant is None else np.broadcast_to(constant.double().numpy().ravel(), (size,))
        for constant in (scale, shift)
    ]
    return per_channel(values, given, channel, *vectors)


def _varying(constant: torch.Tensor, given: View) -> int:
    """Find the one dimension of a view along which a constant varies."""
    sizes = (1,) * (len(given.sizes) - constant.ndim) + tuple(constant.shape)
    varying = [axis for axis, size in enumerate(sizes) if size > 1]
    if len(varying) != 1 or len(sizes) > len(given.sizes) or varying[0] == 0:
        raise UnsupportedError(f"a constant of shape {tuple(constant.shape)} with a tensor of shape {given.sizes}")
    if sizes[varying[0]] != given.sizes[varying[0]]:
        raise UnsupportedError(f"a constant of shape {tuple(constant.shape)} with a tensor of shape {given.sizes}")
    return varying[0]


def per_channel(values: Values, given: View, channel: int, scale: Any, shift: Any) -> View:
    """Multiply by an array of one number per channel and add another; the channels are dimension `channel`."""
    straight = values.straight(given, channel)
    output = values.new(straight.sizes)
    scales, shifts = (None if v is None else np.ascontiguousarray(v, np.float32) for v in (scale, shift))
    values.add(Affine((straight.value,), output.value, scales, shifts))
    return channel_back(output, channel)
