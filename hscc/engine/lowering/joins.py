"""Padding, concatenation, and writing into a part of a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hscc.engine.lowering.arguments import channel_back, spatial
from hscc.engine.lowering.elementwise import per_channel
from hscc.engine.lowering.registry import lowers
from hscc.engine.program import Concat, Pad
from hscc.engine.views import UnsupportedError, Values, View


@lowers("pad.default", "constant_pad_nd.default")
def _pad(
    values: Values, sizes: Sequence[int], given: View, borders: Sequence[int], *rest: Any, **named: Any
) -> View:  # fmt: skip
    given_rest = list(rest)
    mode = named.get("mode", given_rest.pop(0) if given_rest and isinstance(given_rest[0], str) else "constant")
    value = named.get("value", given_rest.pop(0) if given_rest else None)
    if mode != "constant" and any(borders):
        raise UnsupportedError(f"the padding mode {mode}")
    if not any(borders):
        return given
    rank = len(given.sizes)
    pairs = [(borders[2 * i], borders[2 * i + 1]) for i in range(len(borders) // 2)]
    by_axis = [(0, 0)] * (rank - len(pairs)) + pairs[::-1]
    if by_axis[0] != (0, 0):
        raise UnsupportedError("padding of the batch")
    padded = [axis for axis in range(1, rank) if by_axis[axis] != (0, 0)]
    if padded == [1]:
        return _padded_channels(values, sizes, given, by_axis[1], float(value or 0.0))
    channel = next((axis for axis in (1, rank - 1) if axis not in padded), None)
    if channel is None or rank == 2:
        raise UnsupportedError("padding of channels and positions at once")
    straight = values.straight(given, channel)
    axes = [axis for axis in range(1, rank) if axis != channel]
    output = values.new((sizes[0], sizes[channel], *(sizes[axis] for axis in axes)))
    before, after = ([by_axis[axis][side] for axis in axes] for side in (0, 1))
    values.add(
        Pad((straight.value,), output.value, spatial(before, 0), spatial(after, 0), float(value or 0.0))
    )  # fmt: skip
    return channel_back(output, channel)


def _padded_channels(values: Values, sizes: Sequence[int], given: View, borders: tuple[int, int], value: float) -> View:
    """Add constant channels: channels of a copy that is multiplied by zero."""
    first, last = borders
    if min(borders) < 0:
        raise UnsupportedError("negative padding of channels")
    given = values.straight(given)
    channels = given.sizes[1]
    places = np.clip(np.arange(-first, channels + last), 0, channels - 1)
    taken = given.moved(given.index()[:, torch.from_numpy(places)])
    inside = np.pad(np.ones(channels, bool), borders)
    return per_channel(values, taken, 1, inside.astype(np.float32), np.where(inside, 0.0, value))


@lowers("cat.default", "concat.default", "concatenate.default")
def _cat(values: Values, sizes: Sequence[int], parts: Sequence[Any], dim: int = 0) -> View:
    if not all(isinstance(part, View) for part in parts):
        raise UnsupportedError("a concatenation with a constant")
    parts = [part for part in parts if math.prod(part.sizes)]
    if dim % len(sizes) == 0:
        raise UnsupportedError("a concatenation of batches")
    straight = [values.straight(part, dim) for part in parts]
    output = values.new((sizes[0], sizes[dim], *straight[0].sizes[2:]))
    values.add(Concat(tuple(part.value for part in straight), output.value))
    return channel_back(output, dim)


@lowers("stack.default")
def _stack(values: Values, sizes: Sequence[int], parts: Sequence[View], dim: int = 0) -> View:
    if dim % len(sizes) == 0:
        raise UnsupportedError("a stack of batches")
    if not all(isinstance(part, View) for part in parts):
        raise UnsupportedError("a stack with a constant")
    dim %= len(sizes)
    return _cat(values, sizes, [part.moved(part.index().unsqueeze(dim)) for part in parts], dim)


@lowers("slice_scatter.default")
def _slice_scatter(
    values: Values, sizes: Sequence[int], given: View, part: View, dim: int = 0, start: int | None = None,
    end: int | None = None, step: int = 1,
) -> View:  # fmt: skip
    first, last, _ = slice(start, end).indices(sizes[dim])
    if step != 1 or not isinstance(given, View) or not isinstance(part, View):
        raise UnsupportedError("writing into a part of a tensor")
    index = given.index()
    pieces = [
        given.moved(index.narrow(dim, 0, first)), part, given.moved(index.narrow(dim, last, sizes[dim] - last)),
    ]  # fmt: skip
    return _cat(values, sizes, pieces, dim)
