"""What each operation of a program computes, as torch calls: slow, and what the engine is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch.nn import functional as F

from hscc.engine.program import (
    Activation,
    AdaptivePool,
    Affine,
    Binary,
    Concat,
    Convolution,
    Linear,
    Norm,
    Operation,
    Pad,
    Pool,
    Program,
    Quantisation,
    RegionWeights,
    Reshape,
    Resize,
    Select,
    Shape,
    Softmax,
)

Watch: TypeAlias = Callable[[int, str, int, torch.Tensor], None]
Seen: TypeAlias = Callable[[str, int, torch.Tensor], None] | None
_EXACT = 1 << 24  # float32 holds every integer up to here


def run_program(
    program: Program, inputs: Sequence[torch.Tensor], watch: Watch | None = None
) -> list[torch.Tensor]:  # fmt: skip
    """Run a program.

    Parameters
    ----------
    program : Program
        A consistent one.
    inputs : sequence of Tensor
        Of the shapes (N, C, ...) that the program's inputs have, of one floating-point type; all is computed in it,
        but for quantised operations, whose sums of integers are exact and whose other steps are float32's.
    watch : callable, optional
        Called with what each matrix of a convolution or linear layer reads: place of the operation, "input",
        "projected" or "hidden", the region, and the values of shape (N, C, ...); of a region, (C, values of its
        positions).

    Returns
    -------
    list of Tensor, each of shape (N, C, depth, rows, columns)
    """
    computed: dict[int, torch.Tensor] = {}
    for value, given in zip(program.inputs, inputs, strict=True):
        shape = program.values[value]
        computed[value] = given.reshape(len(given), shape.channels, *shape.grid)
    last_use = {value: place for place, operation in enumerate(program.operations) for value in operation.inputs}
    for place, operation in enumerate(program.operations):
        values = [computed[value] for value in operation.inputs]
        seen = None if watch is None else partial(watch, place)
        shape = program.values[operation.output]
        if isinstance(operation, Convolution):
            output = _convolution(operation, values, shape, seen)
        elif isinstance(operation, Linear):
            output = _linear(operation, values, seen)
        else:
            output = _RUNNERS[type(operation)](operation, values, shape)
        activation = getattr(operation, "activation", None)
        computed[operation.output] = output if activation is None else activate(activation, output)
        for value in operation.inputs:
            if last_use[value] == place and value not in program.outputs:
                computed.pop(value, None)
    return [computed[value] for value in program.outputs]


def activate(activation: Activation, values: torch.Tensor) -> torch.Tensor:
    """Apply an activation."""
    return _ACTIVATIONS[activation.name](values, activation.a, activation.b)


_ACTIVATIONS: dict[str, Callable[[torch.Tensor, float, float], torch.Tensor]] = {
    "none": lambda x, a, b: x,
    "relu": lambda x, a, b: x.relu(),
    "clip": lambda x, a, b: x.clamp(a, b),
    "leaky_relu": lambda x, a, b: F.leaky_relu(x, a),
    "sigmoid": lambda x, a, b: x.sigmoid(),
    "hardsigmoid": lambda x, a, b: F.hardsigmoid(x),
    "hardswish": lambda x, a, b: F.hardswish(x),
    "silu": lambda x, a, b: F.silu(x),
    "gelu": lambda x, a, b: F.gelu(x),
    "tanh": lambda x, a, b: x.tanh(),
    "elu": lambda x, a, b: F.elu(x, a),
}


def _convolution(operation: Convolution, inputs: list[torch.Tensor], shape: Shape, seen: Seen) -> torch.Tensor:
    given, *residual = inputs
    _show(seen, "input", 0, given)
    values = getattr(operation, "input_values", None)
    given = centred(given, values)
    if operation.projection is not None:
        between = getattr(operation, "projected_values", None)
        scale = getattr(operation, "projection_scale", None)
        given, values = _product(_pointwise, given, operation.projection, scale, values, between), between
        _show(seen, "projected", 0, given)
    if operation.permutation is not None:
        given = given[:, torch.from_numpy(np.array(operation.permutation, np.int64))]
    # Output o reads at floor(o / up): so many places per axis are computed, then repeated.
    places = [(size - 1) // up + 1 for size, up in zip(shape.grid, operation.up, strict=True)]
    borders: list[int] = []
    for axis in (2, 1, 0):
        reach = (places[axis] - 1) * operation.stride[axis] + (operation.kernel[axis] - 1) * operation.dilation[axis]
        borders += [operation.pad[axis], reach + 1 - operation.pad[axis] - int(given.shape[axis + 2])]
    padded = F.pad(given, borders)
    index = None
    if operation.region_index is not None:
        index = torch.from_numpy(np.array(operation.region_index, np.int64))

    def convolve(x: torch.Tensor, core: torch.Tensor) -> torch.Tensor:
        return F.conv3d(
            x, core.permute(0, 4, 1, 2, 3), None, operation.stride, 0, operation.dilation, operation.groups
        )  # fmt: skip

    def repeat(output: torch.Tensor) -> torch.Tensor:
        for axis, up in enumerate(operation.up):
            output = output.repeat_interleave(up, axis + 2).narrow(axis + 2, 0, shape.grid[axis])
        return output

    def of_region(number: int, region: RegionWeights) -> torch.Tensor:
        bias = _tensor(region.bias, given).view(1, -1, 1, 1, 1)
        if region.core is None:
            return bias.expand(len(given), -1, *shape.grid)
        between = getattr(region, "hidden_values", None)
        output = _product(convolve, padded, region.core, getattr(region, "core_scale", None), values, between)
        if region.decoder is not None:
            if seen is not None:
                hidden = repeat(output).transpose(0, 1)
                seen("hidden", number, hidden.flatten(1) if index is None else hidden[:, :, index == number].flatten(1))
            scale = getattr(region, "decoder_scale", None)
            output = _product(_pointwise, output, region.decoder, scale, between)
        return repeat(output) + bias

    output = of_region(0, operation.regions[0])
    if index is not None:
        for number, region in enumerate(operation.regions):
            output = torch.where(index == number, of_region(number, region), output)
    return output + residual[0] if residual else output


def _linear(operation: Linear, inputs: list[torch.Tensor], seen: Seen) -> torch.Tensor:
    features = inputs[0].movedim(1, -1).flatten(1)
    _show(seen, "input", 0, features)
    values = getattr(operation, "input_values", None)
    features = centred(features, values)
    if operation.encoder is not None:
        between = getattr(operation, "hidden_values", None)
        scale = getattr(operation, "encoder_scale", None)
        features, values = _product(F.linear, features, operation.encoder, scale, values, between), between
        _show(seen, "hidden", 0, features.T)
    output = _product(F.linear, features, operation.weight, getattr(operation, "weight_scale", None), values)
    output = (output + _tensor(operation.bias, features))[:, :, None, None, None]
    return output + inputs[1] if len(inputs) == 2 else output


def _show(seen: Seen, stage: str, region: int, values: torch.Tensor) -> None:
    if seen is not None:
        seen(stage, region, values)


def _product(
    run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], given: torch.Tensor, weight: np.ndarray,
    scale: np.ndarray | None = None, values: Quantisation | None = None, to: Quantisation | None = None,
) -> torch.Tensor:  # fmt: skip
    """Run a product; with int8 weights exact sums of centred integers, then one factor per output row.

    With `to` the result is centred integers again.
    """
    if scale is None or values is None:
        return run(given, _tensor(weight, given))
    largest_sum = 255 * np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(1).max()
    integers = torch.float32 if largest_sum <= _EXACT else torch.float64
    sums = run(given.to(integers), torch.from_numpy(np.array(weight)).to(integers)).float()
    factors = values.scale * scale.astype(np.float64) / (1 if to is None else to.scale)
    made = sums * torch.from_numpy(factors.astype(np.float32)).view(-1, *[1] * (given.ndim - 2))
    return (made if to is None else _cut(made, to)).to(given.dtype)


def centred(given: torch.Tensor, values: Quantisation | None) -> torch.Tensor:
    """Integers that stand for real numbers, less the one that stands for zero, as floats; unchanged without values."""
    if values is None:
        return given
    return _cut(given.float() * float(np.float32(1 / values.scale)), values).to(given.dtype)


def _cut(given: torch.Tensor, values: Quantisation) -> torch.Tensor:
    return given.round().clamp(-values.zero, 255 - values.zero)


def _pointwise(given: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv3d(given, weight[:, :, None, None, None])


def _pool(operation: Pool, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    (given,) = inputs
    inside = torch.ones_like(given[:1, :1])
    counted = _border(inside, operation, float(operation.count_include_pad))
    counted = _windows(counted, operation, shape, 0.0)
    if operation.mode == "max":
        return _windows(given, operation, shape, -torch.inf, before=operation.pad).amax((3, 5, 7))
    values = _windows(_border(given, operation, 0.0), operation, shape, 0.0)
    return values.sum((3, 5, 7)) / counted.sum((3, 5, 7))


def _border(values: torch.Tensor, operation: Pool, value: float) -> torch.Tensor:
    borders = [side for axis in (2, 1, 0) for side in (operation.pad[axis], operation.pad_after[axis])]
    return F.pad(values, borders, value=value)


def _windows(
    values: torch.Tensor, operation: Pool, shape: Shape, outside: float, before: tuple[int, ...] = (0, 0, 0)
) -> torch.Tensor:
    """Windows of a padded value, (N, C, depth, kd, rows, kh, columns, kw)."""
    borders: list[int] = []
    places = []
    for axis in range(3):
        starts = torch.arange(shape.grid[axis]) * operation.stride[axis]
        place = starts[:, None] + torch.arange(operation.kernel[axis]) * operation.dilation[axis]
        behind = max(0, int(place.max()) + 1 - before[axis] - int(values.shape[axis + 2]))
        borders = [before[axis], behind, *borders]
        places.append(place)
    values = F.pad(values, borders, value=outside)
    return values[:, :, places[0][:, :, None, None, None, None], places[1][:, :, None, None], places[2]]


def _adaptive_pool(operation: AdaptivePool, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    if operation.mode == "max":
        return F.adaptive_max_pool3d(inputs[0], shape.grid)
    return F.adaptive_avg_pool3d(inputs[0], shape.grid)


def _binary(operation: Binary, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    return _BINARY[operation.which](*inputs)


_BINARY: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": torch.add, "mul": torch.mul, "sub": torch.sub, "div": torch.div, "max": torch.maximum, "min": torch.minimum,
}  # fmt: skip


def _affine(operation: Affine, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    (values,) = inputs
    if operation.scale is not None:
        values = values * _tensor(operation.scale, values).view(1, -1, 1, 1, 1)
    if operation.shift is not None:
        values = values + _tensor(operation.shift, values).view(1, -1, 1, 1, 1)
    return values


def _concat(operation: Concat, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    return torch.cat(inputs, 1)


def _resize(operation: Resize, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    scales = [scale or None for scale in operation.scale]
    if operation.mode == "nearest":
        return torch.ops.aten.upsample_nearest3d.default(inputs[0], list(shape.grid), *scales)  # type: ignore[no-any-return]
    return torch.ops.aten.upsample_trilinear3d.default(  # type: ignore[no-any-return]
        inputs[0], list(shape.grid), operation.align_corners, *scales
    )


def _select(operation: Select, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    return inputs[0][:, torch.from_numpy(np.array(operation.channels, np.int64))]


def _softmax(operation: Softmax, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    return inputs[0].softmax(1)


def _pad(operation: Pad, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    borders = [side for axis in (2, 1, 0) for side in (operation.before[axis], operation.after[axis])]
    return F.pad(inputs[0], borders, value=operation.value)


def _norm(operation: Norm, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    (values,) = inputs
    weight, bias = (
        None if vector is None else _tensor(vector, values) for vector in (operation.weight, operation.bias)
    )  # fmt: skip
    if operation.groups:
        return F.group_norm(values, operation.groups, weight, bias, operation.eps)
    normed = F.layer_norm(values.movedim(1, -1), (shape.channels,), weight, bias, operation.eps)
    return normed.movedim(-1, 1)


def _reshape(operation: Reshape, inputs: list[torch.Tensor], shape: Shape) -> torch.Tensor:
    return inputs[0].reshape(len(inputs[0]), shape.channels, *shape.grid)


def _tensor(numbers: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.array(numbers)).to(like.dtype)


_RUNNERS: dict[type[Operation], Callable[..., torch.Tensor]] = {
    Pool: _pool, AdaptivePool: _adaptive_pool, Binary: _binary,
    Affine: _affine, Concat: _concat, Resize: _resize, Select: _select, Softmax: _softmax, Pad: _pad, Norm: _norm,
    Reshape: _reshape,
}  # fmt: skip
