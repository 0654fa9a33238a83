"""Convolutions, transposed convolutions and linear layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hscc.engine.fused import by_places
from hscc.engine.lowering.arguments import (
    bias_or_zeros,
    channel_back,
    channels_last,
    constant,
    per_axis,
    spatial,
    triple,
)
from hscc.engine.lowering.registry import lowers
from hscc.engine.program import Convolution, Linear, RegionWeights
from hscc.engine.views import UnsupportedError, Values, View


@lowers("conv1d.default", "conv2d.default", "conv3d.default")
def _convolution(
    values: Values, sizes: Sequence[int], given: View, weight: torch.Tensor, bias: torch.Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> View:  # fmt: skip
    return conv(values, sizes, given, weight, bias, stride, padding, dilation, groups)


@lowers("conv1d.padding", "conv2d.padding", "conv3d.padding")
def _named_padding(
    values: Values, sizes: Sequence[int], given: View, weight: torch.Tensor, bias: torch.Tensor | None = None,
    stride: Any = 1, padding: str = "valid", dilation: Any = 1, groups: int = 1,
) -> View:  # fmt: skip
    rank = weight.ndim - 2
    before = [0] * rank
    if padding == "same":
        each = zip(weight.shape[2:], per_axis(dilation, rank), strict=True)
        before = [(kernel - 1) * step // 2 for kernel, step in each]
    return conv(values, sizes, given, weight, bias, stride, before, dilation, groups)


@lowers("convolution.default", "_convolution.default")
def _any_convolution(
    values: Values, sizes: Sequence[int], given: View, weight: torch.Tensor, bias: torch.Tensor | None, stride: Any,
    padding: Any, dilation: Any, transposed: bool, output_padding: Any, groups: int, *flags: Any,
) -> View:  # fmt: skip
    if transposed:
        return _transposed(values, sizes, given, weight, bias, stride, padding, output_padding, groups, dilation)
    return conv(values, sizes, given, weight, bias, stride, padding, dilation, groups)


def conv(
    values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    groups: int,
) -> View:  # fmt: skip
    """Append a convolution; the arguments are those of the operator."""
    kernels = constant(weight, "a weight")
    rank = kernels.ndim - 2
    if len(given.sizes) != rank + 2:
        raise UnsupportedError("a convolution of a tensor without a batch")
    given, output = values.straight(given), values.new(sizes)
    core = channels_last(kernels)
    values.add(
        Convolution(
            (given.value,), output.value, spatial(kernels.shape[2:]), spatial(per_axis(stride, rank)),
            spatial(per_axis(padding, rank), 0), spatial(per_axis(dilation, rank)),
            (RegionWeights(core, None, bias_or_zeros(bias, len(core))),), groups=groups,
        )
    )  # fmt: skip
    return output


@lowers("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _transposed(
    values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> View:  # fmt: skip
    """Each phase of the output (its position modulo the stride) is a convolution of the input with some of the taps."""
    kernels = constant(weight, "a weight")
    rank = kernels.ndim - 2
    given, output = values.straight(given), values.new(sizes)
    inputs, outputs = len(kernels), kernels.shape[1] * groups
    grouped = kernels.reshape(groups, inputs // groups, outputs // groups, *spatial(kernels.shape[2:]))
    taps = grouped.transpose(0, 2, 3, 4, 5, 1).reshape(outputs, *spatial(kernels.shape[2:]), inputs // groups)
    up, dilations = spatial(per_axis(stride, rank)), spatial(per_axis(dilation, rank))
    axes = [
        _phases(*axis) for axis in zip(taps.shape[1:4], up, spatial(per_axis(padding, rank), 0), dilations, strict=True)
    ]
    kernel = triple(len(places) for places, _ in axes)
    shape = values.shape(output)
    offsets = np.meshgrid(*(np.arange(size) % n for size, n in zip(shape.grid, up, strict=True)), indexing="ij")
    index = (offsets[0] * up[1] + offsets[1]) * up[2] + offsets[2]
    if math.prod(up) > 256:
        raise UnsupportedError(f"a transposed convolution with the stride {stride} (at most 256 phases)")
    shared = bias_or_zeros(bias, outputs)
    regions = []
    for phase in np.ndindex(*up):
        core = np.zeros((outputs, *kernel, inputs // groups), np.float32)
        rows = [
            [(t, at[p]) for t, at in enumerate(places) if p in at] for p, (places, _) in zip(phase, axes, strict=True)
        ]
        for d, source_d in rows[0]:
            for h, source_h in rows[1]:
                for w, source_w in rows[2]:
                    core[:, d, h, w] = taps[:, source_d, source_h, source_w]
        regions.append(RegionWeights(core if all(rows) else None, None, shared))
    values.add(
        Convolution(
            (given.value,), output.value, kernel, (1, 1, 1), triple(pad for _, pad in axes), (1, 1, 1), tuple(regions),
            up, groups, region_index=index.astype(np.uint8) if len(regions) > 1 else None,
        )
    )  # fmt: skip
    return output


def _phases(kernel: int, stride: int, padding: int, dilation: int) -> tuple[list[dict[int, int]], int]:
    """Taps of one axis by input offset.

    Output ``stride * q + p`` sums, over taps t, the input at ``q + (p + padding - t * dilation) / stride`` where that
    is whole.

    Returns
    -------
    places : list of dict
        For each input offset from the lowest on: phase p to tap t.
    pad : int
        Minus the lowest offset.
    """
    found: dict[int, dict[int, int]] = {}
    for phase in range(stride):
        for tap in range(kernel):
            offset, rest = divmod(phase + padding - tap * dilation, stride)
            if not rest:
                found.setdefault(offset, {})[phase] = tap
    lowest, highest = min(0, *found), max(found)  # more padding than the kernel reaches leaves taps without weights
    return [found.get(offset, {}) for offset in range(lowest, highest + 1)], -lowest


@lowers("linear.default")
def linear(values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any = None) -> View:
    """Append a linear layer: of a flattened view, or as a 1 x 1 convolution of the last dimension."""
    matrix = constant(weight, "a weight")
    shift = bias_or_zeros(bias, len(matrix))
    if len(given.sizes) == 2:
        output = values.new(sizes)
        values.add(Linear((given.value,), output.value, by_places(values, given, matrix), shift))
        return output
    straight = values.straight(given, -1)
    output = values.new((sizes[0], sizes[-1], *sizes[1:-1]))
    core = np.ascontiguousarray(matrix[:, None, None, None, :])
    one = (1, 1, 1)
    values.add(
        Convolution(
            (straight.value,), output.value, one, one, (0, 0, 0), one, (RegionWeights(core, None, shift),)
        )
    )  # fmt: skip
    return channel_back(output, -1)


@lowers("addmm.default")
def _addmm(
    values: Values, sizes: Sequence[int], bias: Any, given: Any, weight: Any, *, beta: float = 1, alpha: float = 1
) -> View:  # fmt: skip
    matrix = torch.as_tensor(constant(weight, "a weight")).T * alpha
    return linear(values, sizes, given, matrix, torch.as_tensor(constant(bias, "a bias")) * beta)


@lowers("matmul.default", "mm.default")
def _matmul(values: Values, sizes: Sequence[int], given: Any, weight: Any) -> View:
    if isinstance(weight, View) or not isinstance(given, View) or weight.ndim != 2:
        raise UnsupportedError("a product of two computed matrices")
    return linear(values, sizes, given, weight.T)
