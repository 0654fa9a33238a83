"""Pools, means over dimensions, interpolation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hscc.engine.lowering.arguments import per_axis, spatial
from hscc.engine.lowering.elementwise import times
from hscc.engine.lowering.layers import conv, linear
from hscc.engine.lowering.registry import lowers
from hscc.engine.program import AdaptivePool, Pool, Resize
from hscc.engine.views import UnsupportedError, Values, View


@lowers("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def _max_pool(
    values: Values, sizes: Sequence[int], given: View, kernel: Any, stride: Any = (), padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False,
) -> View:  # fmt: skip
    return _pooled(values, sizes, given, "max", kernel, stride, padding, dilation)


@lowers("max_pool2d_with_indices.default", "max_pool3d_with_indices.default")
def _max_pool_with_indices(values: Values, sizes: Any, given: View, *args: Any) -> list[View]:
    return [_max_pool(values, sizes[0], given, *args)]


@lowers("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def _average_pool(
    values: Values, sizes: Sequence[int], given: View, kernel: Any, stride: Any = (), padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> View:  # fmt: skip
    if divisor_override is not None:
        raise UnsupportedError("average pooling with a divisor of its own")
    return _pooled(values, sizes, given, "average", kernel, stride, padding, 1, count_include_pad)


def _pooled(
    values: Values, sizes: Sequence[int], given: View, mode: str, kernel: Any, stride: Any, padding: Any, dilation: Any,
    count_include_pad: bool = False,
) -> View:  # fmt: skip
    rank = len(sizes) - 2
    given, output = values.straight(given), values.new(sizes)
    steps = per_axis(kernel, rank) if stride in ((), []) else per_axis(stride, rank)
    pad = spatial(per_axis(padding, rank), 0)
    counted = count_include_pad and any(pad)
    values.add(
        Pool(
            (given.value,), output.value, mode, spatial(per_axis(kernel, rank)), spatial(steps), pad,
            spatial(per_axis(dilation, rank)), counted, pad if counted else (0, 0, 0),
        )
    )  # fmt: skip
    return output


@lowers("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default",
        "_adaptive_avg_pool2d.default", "_adaptive_avg_pool3d.default")  # fmt: skip
def _adaptive_average(values: Values, sizes: Sequence[int], given: View, size: Any) -> View:
    return _adaptive(values, sizes, given, "average")


@lowers("adaptive_max_pool1d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default")
def _adaptive_max(values: Values, sizes: Any, given: View, size: Any) -> list[View]:
    return [_adaptive(values, sizes[0], given, "max")]


def _adaptive(values: Values, sizes: Sequence[int], given: View, mode: str) -> View:
    given = values.straight(given)
    if given.sizes == tuple(sizes):
        return given
    output = values.new(sizes)
    values.add(AdaptivePool((given.value,), output.value, mode))
    return output


@lowers("mean.dim")
def _mean(
    values: Values, sizes: Sequence[int], given: View, dims: Sequence[int] | None, keepdim: bool = False, **options: Any
) -> View:  # fmt: skip
    return _reduced(values, sizes, given, dims, "average")


@lowers("amax.default")
def _amax(values: Values, sizes: Sequence[int], given: View, dims: Sequence[int] = (), keepdim: bool = False) -> View:
    return _reduced(values, sizes, given, dims, "max")


@lowers("sum.dim_IntList")
def _sum(
    values: Values, sizes: Sequence[int], given: View, dims: Sequence[int] | None, keepdim: bool = False, **options: Any
) -> View:  # fmt: skip
    count = math.prod(given.sizes) // math.prod(sizes)
    return times(values, _reduced(values, sizes, given, dims, "average"), float(count))


def _reduced(values: Values, sizes: Sequence[int], given: View, dims: Sequence[int] | None, mode: str) -> View:
    rank = len(given.sizes)
    reduced = sorted(dim % rank for dim in (dims or range(rank)))
    kept = [dim for dim in range(1, rank) if dim not in reduced]
    if 0 in reduced:
        raise UnsupportedError("a mean over the batch")
    if len(kept) == 1 and len(reduced) == rank - 2:  # over all positions
        straight = values.straight(given, kept[0])
        result = _adaptive(values, (*straight.sizes[:2], *[1] * (rank - 2)), straight, mode)
    elif len(reduced) == 1 and mode == "average":  # over channels
        straight = values.straight(given, reduced[0])
        channels = straight.sizes[1]
        weight = torch.full((1, channels, *[1] * (rank - 2)), 1.0 / channels)
        if rank == 2:
            result = linear(values, (straight.sizes[0], 1), straight, weight)
        else:
            result = conv(values, (straight.sizes[0], 1, *straight.sizes[2:]), straight, weight, None, 1, 0, 1, 1)
    else:
        raise UnsupportedError(f"a reduction over the dimensions {reduced} of {rank}")
    return result.moved(result.index().reshape(tuple(sizes)))


@lowers("upsample_nearest1d.vec", "upsample_nearest2d.vec", "upsample_nearest3d.vec")
def _nearest(values: Values, sizes: Sequence[int], given: View, size: Any, scales: Any) -> View:
    return _resized(values, sizes, given, "nearest", False, scales)


@lowers("upsample_linear1d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec")
def _interpolated(values: Values, sizes: Sequence[int], given: View, size: Any, align: bool, scales: Any) -> View:
    return _resized(values, sizes, given, "linear", align, scales)


@lowers("upsample_nearest1d.default", "upsample_nearest2d.default", "upsample_nearest3d.default")
def _nearest_by_size(values: Values, sizes: Sequence[int], given: View, size: Any, *scales: Any) -> View:
    return _resized(values, sizes, given, "nearest", False, scales if any(scales) else None)


@lowers("upsample_linear1d.default", "upsample_bilinear2d.default", "upsample_trilinear3d.default")
def _interpolated_by_size(
    values: Values, sizes: Sequence[int], given: View, size: Any, align: bool, *scales: Any
) -> View:  # fmt: skip
    return _resized(values, sizes, given, "linear", align, scales if any(scales) else None)


def _resized(values: Values, sizes: Sequence[int], given: View, mode: str, align: bool, scales: Any) -> View:
    given, output = values.straight(given), values.new(sizes)
    rank = len(sizes) - 2
    each = [0.0] * 3
    if scales is not None:
        each[3 - rank :] = [_stored(float(scale or 0.0)) for scale in scales]
    values.add(Resize((given.value,), output.value, mode, bool(align), (each[0], each[1], each[2])))
    return output


def _stored(scale: float) -> float:
    """A float32, as files hold, with the reciprocal of a scale in float32, which is what torch multiplies by."""
    if not scale:
        return 0.0
    near, wanted = np.float32(scale), np.float32(1.0 / scale)
    for each in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))):
        if np.float32(1.0 / float(each)) == wanted:
            return float(each)
    return float(near)
