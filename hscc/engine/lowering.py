"""ATen operators, as torch.export leaves them, in terms of the program's operations: one function for each kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from hscc.engine.fused import by_places
from hscc.engine.program import (
    Activation,
    AdaptivePool,
    Affine,
    Array,
    Binary,
    Concat,
    Convolution,
    Linear,
    Norm,
    Pad,
    Pool,
    RegionWeights,
    Resize,
    Shape,
    Softmax,
    Triple,
)
from hscc.engine.views import UnsupportedError, Values, View

Result: TypeAlias = Any  # a View, or a list of views for an operator with several results
Lowering: TypeAlias = Callable[..., Result]
LOWERINGS: dict[str, Lowering] = {}

_LARGEST = float(np.finfo(np.float32).max)


def lowers(*operators: str) -> Callable[[Lowering], Lowering]:
    """Register a function for operators such as ``conv2d.default`` of ATen.

    The function takes the program's values, the sizes of the result, and the operator's arguments: views for what
    depends on the network's input, tensors for constants.
    """

    def register(function: Lowering) -> Lowering:
        LOWERINGS.update(dict.fromkeys(operators, function))
        return function

    return register


# --- Views: what moves no number -------------------------------------------------------------------------------------

_MOVING = (
    "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int", "permute.default",
    "transpose.int", "t.default", "squeeze.default", "squeeze.dim", "squeeze.dims", "unsqueeze.default", "slice.Tensor",
    "select.int", "narrow.default", "split.Tensor", "split.sizes", "split_with_sizes.default", "chunk.default",
    "tensor_split.sections", "unbind.int", "expand.default", "expand_as.default", "flip.default", "roll.default",
    "repeat.default", "index_select.default", "pixel_shuffle.default", "pixel_unshuffle.default",
    "channel_shuffle.default", "movedim.int", "movedim.intlist", "swapaxes.default", "swapdims.default", "mT.default",
    "unsafe_split.Tensor", "unsafe_chunk.default", "view_as.default", "reshape_as.default", "hsplit.int",
    "index.Tensor",
)  # fmt: skip
_RESHAPING = (
    "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int", "squeeze.default",
    "squeeze.dim", "squeeze.dims", "unsqueeze.default", "view_as.default", "reshape_as.default",
)  # fmt: skip
_SAME = (
    "contiguous.default", "clone.default", "detach.default", "alias.default", "dropout.default", "feature_dropout.default",
    "alpha_dropout.default", "lift_fresh_copy.default", "_to_copy.default", "to.dtype", "to.device", "to.dtype_layout",
    "type_as.default", "float.default", "positive.default", "identity.default",
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


# --- Convolutions and linear layers ----------------------------------------------------------------------------------


@lowers("conv1d.default", "conv2d.default", "conv3d.default")
def _convolution(
    values: Values, sizes: Sequence[int], given: View, weight: torch.Tensor, bias: torch.Tensor | None = None,
    stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> View:  # fmt: skip
    return _conv(values, sizes, given, weight, bias, stride, padding, dilation, groups)


@lowers("conv1d.padding", "conv2d.padding", "conv3d.padding")
def _named_padding(
    values: Values, sizes: Sequence[int], given: View, weight: torch.Tensor, bias: torch.Tensor | None = None,
    stride: Any = 1, padding: str = "valid", dilation: Any = 1, groups: int = 1,
) -> View:  # fmt: skip
    rank = weight.ndim - 2
    before = [0] * rank
    if padding == "same":
        each = zip(weight.shape[2:], _listed(dilation, rank), strict=True)
        before = [(kernel - 1) * step // 2 for kernel, step in each]
    return _conv(values, sizes, given, weight, bias, stride, before, dilation, groups)


@lowers("convolution.default", "_convolution.default")
def _any_convolution(
    values: Values, sizes: Sequence[int], given: View, weight: torch.Tensor, bias: torch.Tensor | None, stride: Any,
    padding: Any, dilation: Any, transposed: bool, output_padding: Any, groups: int, *flags: Any,
) -> View:  # fmt: skip
    if transposed:
        return _transposed(values, sizes, given, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(values, sizes, given, weight, bias, stride, padding, dilation, groups)


def _conv(
    values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    groups: int,
) -> View:  # fmt: skip
    kernels = _constant(weight, "a weight")
    rank = kernels.ndim - 2
    if len(given.sizes) != rank + 2:
        raise UnsupportedError("a convolution of a tensor without a batch")
    given, output = values.straight(given), values.new(sizes)
    core = _channels_last(kernels)
    values.add(
        Convolution(
            (given.value,), output.value, _spatial(kernels.shape[2:]), _spatial(_listed(stride, rank)),
            _spatial(_listed(padding, rank), 0), _spatial(_listed(dilation, rank)),
            (RegionWeights(core, None, _bias(bias, len(core))),), groups=groups,
        )
    )  # fmt: skip
    return output


@lowers("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def _transposed(
    values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> View:  # fmt: skip
    """Each phase of the output (its position modulo the stride) is a convolution of the input with some of the taps."""
    kernels = _constant(weight, "a weight")
    rank = kernels.ndim - 2
    given, output = values.straight(given), values.new(sizes)
    inputs, outputs = len(kernels), kernels.shape[1] * groups
    grouped = kernels.reshape(groups, inputs // groups, outputs // groups, *_spatial(kernels.shape[2:]))
    taps = grouped.transpose(0, 2, 3, 4, 5, 1).reshape(outputs, *_spatial(kernels.shape[2:]), inputs // groups)
    up, dilations = _spatial(_listed(stride, rank)), _spatial(_listed(dilation, rank))
    axes = [
        _phases(*axis) for axis in zip(taps.shape[1:4], up, _spatial(_listed(padding, rank), 0), dilations, strict=True)
    ]
    kernel = _three(len(places) for places, _ in axes)
    shape = values.shape(output)
    offsets = np.meshgrid(*(np.arange(size) % n for size, n in zip(shape.grid, up, strict=True)), indexing="ij")
    index = (offsets[0] * up[1] + offsets[1]) * up[2] + offsets[2]
    if math.prod(up) > 256:
        raise UnsupportedError(f"a transposed convolution with the stride {stride} (at most 256 phases)")
    shared = _bias(bias, outputs)
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
            (given.value,), output.value, kernel, (1, 1, 1), _three(pad for _, pad in axes), (1, 1, 1), tuple(regions),
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
    lowest, highest = min(found), max(found)
    return [found.get(offset, {}) for offset in range(lowest, highest + 1)], -lowest


@lowers("linear.default")
def _linear(values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any = None) -> View:
    matrix = _constant(weight, "a weight")
    shift = _bias(bias, len(matrix))
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
    return _channel_back(output, -1)


@lowers("addmm.default")
def _addmm(
    values: Values, sizes: Sequence[int], bias: Any, given: Any, weight: Any, *, beta: float = 1, alpha: float = 1
) -> View:  # fmt: skip
    matrix = torch.as_tensor(_constant(weight, "a weight")).T * alpha
    return _linear(values, sizes, given, matrix, torch.as_tensor(_constant(bias, "a bias")) * beta)


@lowers("matmul.default", "mm.default")
def _matmul(values: Values, sizes: Sequence[int], given: Any, weight: Any) -> View:
    if isinstance(weight, View) or not isinstance(given, View) or weight.ndim != 2:
        raise UnsupportedError("a product of two computed matrices")
    return _linear(values, sizes, given, weight.T)


# --- Norms -----------------------------------------------------------------------------------------------------------


@lowers("batch_norm.default")
def _batch_norm(
    values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any, mean: Any, variance: Any, training: bool,
    momentum: float, eps: float, *flags: Any,
) -> View:  # fmt: skip
    if training or mean is None:
        raise UnsupportedError("batch norm with the statistics of the batch")
    deviation = np.sqrt(_constant(variance, "a variance").astype(np.float64) + eps)
    scale = (1.0 if weight is None else _constant(weight, "a weight")) / deviation
    shift = (0.0 if bias is None else _constant(bias, "a bias")) - _constant(mean, "a mean") * scale
    return _per_channel(values, given, 1, scale, shift)


@lowers("_native_batch_norm_legit_no_training.default")
def _inference_batch_norm(
    values: Values, sizes: Any, given: View, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> list[View]:  # fmt: skip
    return [_batch_norm(values, sizes, given, weight, bias, mean, variance, False, momentum, eps)]


@lowers("instance_norm.default")
def _instance_norm(
    values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any, mean: Any, variance: Any,
    of_image: bool, momentum: float, eps: float, *flags: Any,
) -> View:  # fmt: skip
    if not of_image:
        return _batch_norm(values, sizes, given, weight, bias, mean, variance, False, momentum, eps)
    return _group_norm(values, sizes, given, given.sizes[1], weight, bias, eps)


@lowers("group_norm.default")
def _group_norm(
    values: Values, sizes: Sequence[int], given: View, groups: int, weight: Any = None, bias: Any = None,
    eps: float = 1e-5, *flags: Any,
) -> View:  # fmt: skip
    given, output = values.straight(given), values.new(sizes)
    values.add(Norm((given.value,), output.value, groups, eps, _maybe(weight), _maybe(bias)))
    return output


@lowers("layer_norm.default")
def _layer_norm(
    values: Values, sizes: Sequence[int], given: View, normalized: Sequence[int], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, *flags: Any,
) -> View:  # fmt: skip
    if len(normalized) == 1:
        straight = values.straight(given, -1)
        output = values.new(straight.sizes)
        values.add(Norm((straight.value,), output.value, 0, eps, _maybe(weight), _maybe(bias)))
        return _channel_back(output, -1)
    if len(normalized) != len(given.sizes) - 1:
        raise UnsupportedError(f"layer norm over {len(normalized)} of {len(given.sizes) - 1} dimensions")
    vectors = []
    for tensor in (weight, bias):
        vector = _maybe(tensor)
        if vector is not None:
            flat = vector.reshape(len(vector), -1)
            if (flat != flat[:, :1]).any():
                raise UnsupportedError("layer norm with weights that differ between positions")
            vector = np.ascontiguousarray(flat[:, 0])
        vectors.append(vector)
    given, output = values.straight(given), values.new(sizes)
    values.add(Norm((given.value,), output.value, 1, eps, *vectors))
    return output


# --- Activations -----------------------------------------------------------------------------------------------------


def _activated(values: Values, given: View, activation: Activation) -> View:
    """Apply an activation; the order of the numbers is of no matter to it."""
    return _on_each(values, given, lambda value, output: Affine((value,), output, activation=activation))


def _on_each(values: Values, given: View, make: Callable[[int, int], Any]) -> View:
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
            return _channel_back(values.straight(given, channel), channel)
        except UnsupportedError:
            continue
    return given


_PLAIN = {"relu": "relu", "sigmoid": "sigmoid", "hardsigmoid": "hardsigmoid", "hardswish": "hardswish", "silu": "silu",
          "tanh": "tanh"}  # fmt: skip


def _register_plain(operator: str, name: str) -> None:
    @lowers(f"{operator}.default")
    def _plain(values: Values, sizes: Sequence[int], given: View) -> View:
        return _activated(values, given, Activation(name))


for _operator, _name in _PLAIN.items():
    _register_plain(_operator, _name)


@lowers("relu6.default")
def _relu6(values: Values, sizes: Sequence[int], given: View) -> View:
    return _activated(values, given, Activation("clip", 0.0, 6.0))


def _clipped(low_default: float | None, high_default: float | None) -> Lowering:
    def clip(
        values: Values, sizes: Sequence[int], given: View, first: Any = None, second: Any = None, **named: Any
    ) -> View:  # fmt: skip
        low = named.get("min", named.get("min_val", first))
        high = named.get("max", named.get("max_val", second))
        low, high = low_default if low is None else low, high_default if high is None else high
        return _activated(
            values, given, Activation("clip", -_LARGEST if low is None else low, _LARGEST if high is None else high)
        )

    return clip


LOWERINGS["hardtanh.default"] = _clipped(-1.0, 1.0)
LOWERINGS["clamp.default"] = LOWERINGS["clip.default"] = LOWERINGS["clamp_min.default"] = _clipped(None, None)


@lowers("clamp_max.default")
def _clamp_max(values: Values, sizes: Sequence[int], given: View, high: float) -> View:
    return _activated(values, given, Activation("clip", -_LARGEST, high))


@lowers("leaky_relu.default")
def _leaky_relu(values: Values, sizes: Sequence[int], given: View, negative_slope: float = 0.01) -> View:
    return _activated(values, given, Activation("leaky_relu", negative_slope))


@lowers("elu.default")
def _elu(
    values: Values, sizes: Sequence[int], given: View, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> View:  # fmt: skip
    if input_scale != 1.0:
        raise UnsupportedError("elu with a scaled input")
    return _times(values, _activated(values, given, Activation("elu", alpha)), scale)


@lowers("celu.default")
def _celu(values: Values, sizes: Sequence[int], given: View, alpha: float = 1.0) -> View:
    scaled = _times(values, given, 1.0 / alpha)
    return _times(values, _activated(values, scaled, Activation("elu", 1.0)), alpha)


@lowers("selu.default")
def _selu(values: Values, sizes: Sequence[int], given: View) -> View:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return _times(values, _activated(values, given, Activation("elu", alpha)), scale)


@lowers("gelu.default")
def _gelu(values: Values, sizes: Sequence[int], given: View, *, approximate: str = "none") -> View:
    if approximate == "none":
        return _activated(values, given, Activation("gelu"))
    # x / 2 * (1 + tanh(u)) = x * sigmoid(2 u) with u = sqrt(2 / pi) * (x + 0.044715 x^3).
    factor = 2.0 * math.sqrt(2.0 / math.pi)
    square = _joined(values, sizes, given, given, "mul")
    inner = _affine_scalar(values, square, 0.044715 * factor, factor)
    gate = _activated(values, _joined(values, sizes, given, inner, "mul"), Activation("sigmoid"))
    return _joined(values, sizes, given, gate, "mul")


@lowers("prelu.default", "_prelu_kernel.default")
def _prelu(values: Values, sizes: Sequence[int], given: View, slope: Any) -> View:
    slopes = _constant(slope, "a slope").ravel()
    if (slopes == slopes[0]).all():
        return _activated(values, given, Activation("leaky_relu", float(slopes[0])))
    positive = _activated(values, given, Activation("relu"))
    negative = _activated(values, _times(values, given, -1.0), Activation("relu"))
    return _joined(values, sizes, positive, _per_channel(values, negative, 1, -slopes, None), "add")


@lowers("softmax.int", "_softmax.default")
def _softmax(values: Values, sizes: Sequence[int], given: View, dim: int, *flags: Any) -> View:
    straight = values.straight(given, dim)
    output = values.new(straight.sizes)
    values.add(Softmax((straight.value,), output.value))
    return _channel_back(output, dim)


# --- Arithmetic ------------------------------------------------------------------------------------------------------


@lowers("add.Tensor", "add.Scalar")
def _add(values: Values, sizes: Sequence[int], a: Any, b: Any, alpha: Any = 1) -> View:
    if isinstance(a, View) and isinstance(b, View):
        return _joined(values, sizes, a, b if alpha == 1 else _times(values, b, alpha), "add")
    if isinstance(a, View):
        return _with_constant(values, a, None, _tensor(b) * alpha)
    return _with_constant(values, _times(values, b, alpha), None, _tensor(a))


@lowers("sub.Tensor", "sub.Scalar")
def _sub(values: Values, sizes: Sequence[int], a: Any, b: Any, alpha: Any = 1) -> View:
    if isinstance(a, View) and isinstance(b, View):
        if _covers(a, sizes):
            return _joined(values, sizes, a, b if alpha == 1 else _times(values, b, alpha), "sub")
        return _add(values, sizes, a, _times(values, b, -alpha))
    if isinstance(a, View):
        return _with_constant(values, a, None, _tensor(b) * -alpha)
    return _with_constant(values, b, _tensor(-alpha), _tensor(a))


@lowers("rsub.Scalar", "rsub.Tensor")
def _rsub(values: Values, sizes: Sequence[int], a: Any, b: Any, alpha: Any = 1) -> View:
    return _sub(values, sizes, b, a, alpha)


@lowers("mul.Tensor", "mul.Scalar")
def _mul(values: Values, sizes: Sequence[int], a: Any, b: Any) -> View:
    if isinstance(a, View) and isinstance(b, View):
        return _joined(values, sizes, a, b, "mul")
    return _with_constant(values, a, _tensor(b), None) if isinstance(a, View) else _mul(values, sizes, b, a)


@lowers("div.Tensor", "div.Scalar")
def _div(values: Values, sizes: Sequence[int], a: Any, b: Any) -> View:
    if isinstance(a, View) and isinstance(b, View):
        return _joined(values, sizes, a, b, "div")
    if not isinstance(a, View):
        raise UnsupportedError("a constant divided by a computed tensor")
    return _with_constant(values, a, 1.0 / _tensor(b).double(), None)


@lowers("neg.default")
def _neg(values: Values, sizes: Sequence[int], given: View) -> View:
    return _times(values, given, -1.0)


@lowers("maximum.default")
def _maximum(values: Values, sizes: Sequence[int], a: Any, b: Any) -> View:
    return _joined(values, sizes, _computed(a), _computed(b), "max")


@lowers("minimum.default")
def _minimum(values: Values, sizes: Sequence[int], a: Any, b: Any) -> View:
    return _joined(values, sizes, _computed(a), _computed(b), "min")


@lowers("pow.Tensor_Scalar")
def _pow(values: Values, sizes: Sequence[int], given: View, exponent: float) -> View:
    if exponent not in (1, 2, 3):
        raise UnsupportedError(f"a power of {exponent}")
    result = given
    for _ in range(int(exponent) - 1):
        result = _joined(values, sizes, result, given, "mul")
    return result


@lowers("square.default")
def _square(values: Values, sizes: Sequence[int], given: View) -> View:
    return _joined(values, sizes, given, given, "mul")


def _computed(operand: Any) -> View:
    if not isinstance(operand, View):
        raise UnsupportedError("the larger or smaller of a constant and a computed tensor")
    return operand


def _covers(view: View, sizes: Sequence[int]) -> bool:
    return tuple(view.sizes) == tuple(sizes)


def _joined(values: Values, sizes: Sequence[int], a: View, b: View, which: str) -> View:
    """Join two views number by number; one of them may be repeated over positions, or over channels."""
    if not _covers(a, sizes):
        if not _covers(b, sizes) or which not in ("add", "mul", "max", "min"):
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
            output = values.new(first.sizes)
            values.add(Binary((first.value, second.value), output.value, which))
            return _channel_back(output, channel)
    raise problem


def _times(values: Values, given: View, factor: float) -> View:
    return given if factor == 1 else _affine_scalar(values, given, float(factor), None)


def _affine_scalar(values: Values, given: View, scale: float | None, shift: float | None) -> View:
    def make(value: int, output: int) -> Affine:
        channels = values.program.values[value].channels
        scales, shifts = (None if n is None else np.full(channels, n, np.float32) for n in (scale, shift))
        return Affine((value,), output, scales, shifts)

    return _on_each(values, given, make)


def _with_constant(values: Values, given: View, scale: torch.Tensor | None, shift: torch.Tensor | None) -> View:
    """Multiply by a constant and add another: of one number, or one per channel."""
    present = [constant for constant in (scale, shift) if constant is not None]
    if all(constant.numel() == 1 for constant in present):
        numbers = [None if constant is None else float(constant) for constant in (scale, shift)]
        return _affine_scalar(values, given, *numbers)
    channels = {_varying(constant, given) for constant in present if constant.numel() > 1}
    if len(channels) > 1:
        raise UnsupportedError("constants along different dimensions")
    (channel,) = channels
    size = given.sizes[channel]
    vectors = [
        None if constant is None else np.broadcast_to(constant.double().numpy().ravel(), (size,))
        for constant in (scale, shift)
    ]
    return _per_channel(values, given, channel, *vectors)


def _varying(constant: torch.Tensor, given: View) -> int:
    """Find the one dimension of a view along which a constant varies."""
    sizes = (1,) * (len(given.sizes) - constant.ndim) + tuple(constant.shape)
    varying = [axis for axis, size in enumerate(sizes) if size > 1]
    if len(varying) != 1 or len(sizes) > len(given.sizes) or varying[0] == 0:
        raise UnsupportedError(f"a constant of shape {tuple(constant.shape)} with a tensor of shape {given.sizes}")
    if sizes[varying[0]] != given.sizes[varying[0]]:
        raise UnsupportedError(f"a constant of shape {tuple(constant.shape)} with a tensor of shape {given.sizes}")
    return varying[0]


def _per_channel(values: Values, given: View, channel: int, scale: Any, shift: Any) -> View:
    straight = values.straight(given, channel)
    output = values.new(straight.sizes)
    vectors = [None if v is None else np.ascontiguousarray(v, np.float32) for v in (scale, shift)]
    values.add(Affine((straight.value,), output.value, *vectors))
    return _channel_back(output, channel)


# --- Pools, means, sizes ---------------------------------------------------------------------------------------------


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
    steps = _listed(kernel, rank) if stride in ((), []) else _listed(stride, rank)
    pad = _spatial(_listed(padding, rank), 0)
    counted = count_include_pad and any(pad)
    values.add(
        Pool(
            (given.value,), output.value, mode, _spatial(_listed(kernel, rank)), _spatial(steps), pad,
            _spatial(_listed(dilation, rank)), counted, pad if counted else (0, 0, 0),
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
    return _times(values, _reduced(values, sizes, given, dims, "average"), float(count))


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
            result = _linear(values, (straight.sizes[0], 1), straight, weight)
        else:
            result = _conv(values, (straight.sizes[0], 1, *straight.sizes[2:]), straight, weight, None, 1, 0, 1, 1)
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
        each[3 - rank :] = [float(scale or 0.0) for scale in scales]
    values.add(Resize((given.value,), output.value, mode, bool(align), (each[0], each[1], each[2])))
    return output


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
        Pad((straight.value,), output.value, _spatial(before, 0), _spatial(after, 0), float(value or 0.0))
    )  # fmt: skip
    return _channel_back(output, channel)


def _padded_channels(values: Values, sizes: Sequence[int], given: View, borders: tuple[int, int], value: float) -> View:
    """Add constant channels: channels of a copy that is multiplied by zero."""
    first, last = borders
    if min(borders) < 0:
        raise UnsupportedError("negative padding of channels")
    given = values.straight(given)
    channels = given.sizes[1]
    places = np.clip(np.arange(-first, channels + last), 0, channels - 1)
    taken = given.moved(given.index()[:, torch.from_numpy(places)])
    inside = np.arange(-first, channels + last)
    inside = (inside >= 0) & (inside < channels)
    return _per_channel(values, taken, 1, inside.astype(np.float32), np.where(inside, 0.0, value))


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
    return _channel_back(output, dim)


@lowers("stack.default")
def _stack(values: Values, sizes: Sequence[int], parts: Sequence[View], dim: int = 0) -> View:
    if dim % len(sizes) == 0:
        raise UnsupportedError("a stack of batches")
    dim %= len(sizes)
    return _cat(values, sizes, [part.moved(part.index().unsqueeze(dim)) for part in parts], dim)


@lowers("slice_scatter.default")
def _slice_scatter(
    values: Values, sizes: Sequence[int], given: View, part: View, dim: int = 0, start: int | None = None,
    end: int | None = None, step: int = 1,
) -> View:  # fmt: skip
    first, last, _ = slice(start, end).indices(sizes[dim])
    if step != 1 or not isinstance(part, View):
        raise UnsupportedError("writing into a part of a tensor")
    index = given.index()
    pieces = [
        given.moved(index.narrow(dim, 0, first)), part, given.moved(index.narrow(dim, last, sizes[dim] - last)),
    ]  # fmt: skip
    return _cat(values, sizes, pieces, dim)


# --- Arguments -------------------------------------------------------------------------------------------------------


def _channel_back(straight: View, channel: int) -> View:
    """Give a view with its channels first the order of dimensions that it had before `Values.straight`."""
    if channel % len(straight.sizes) == 1:
        return straight
    return straight.moved(straight.index().movedim(1, channel))


def _tensor(number: Any) -> torch.Tensor:
    return number if isinstance(number, torch.Tensor) else torch.tensor(float(number), dtype=torch.float64)


def _constant(tensor: Any, what: str) -> Array:
    if not isinstance(tensor, torch.Tensor):
        if isinstance(tensor, np.ndarray):
            return tensor
        raise UnsupportedError(f"{what} that is computed from the input")
    return np.ascontiguousarray(tensor.detach().numpy(), np.float32)


def _maybe(tensor: Any) -> Array | None:
    return None if tensor is None else _constant(tensor, "a weight")


def _bias(tensor: Any, outputs: int) -> Array:
    return np.zeros(outputs, np.float32) if tensor is None else _constant(tensor, "a bias")


def _channels_last(kernels: Array) -> Array:
    """(C_out, C_in, ...) to (C_out, kd, kh, kw, C_in)."""
    taps = kernels.reshape(*kernels.shape[:2], *_spatial(kernels.shape[2:]))
    return np.ascontiguousarray(taps.transpose(0, 2, 3, 4, 1))


def _listed(number: Any, rank: int) -> list[int]:
    if isinstance(number, int):
        return [number] * rank
    return list(number) * (rank if len(number) == 1 else 1)


def _spatial(numbers: Sequence[int], missing: int = 1) -> Triple:
    return _three([*[missing] * (3 - len(numbers)), *(int(number) for number in numbers)])


def _three(numbers: Any) -> Triple:
    depth, rows, columns = numbers
    return (depth, rows, columns)
