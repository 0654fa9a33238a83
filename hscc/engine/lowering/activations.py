"""Activation functions and softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hscc.engine.lowering.arguments import channel_back, constant
from hscc.engine.lowering.elementwise import activated, joined, per_channel, scaled_and_shifted, times
from hscc.engine.lowering.registry import LOWERINGS, Lowering, lowers
from hscc.engine.program import Activation, Softmax
from hscc.engine.views import UnsupportedError, Values, View

_LARGEST = float(np.finfo(np.float32).max)
_PLAIN = {"relu": "relu", "sigmoid": "sigmoid", "hardsigmoid": "hardsigmoid", "hardswish": "hardswish", "silu": "silu",
          "tanh": "tanh"}  # fmt: skip


def _register_plain(operator: str, name: str) -> None:
    @lowers(f"{operator}.default")
    def _plain(values: Values, sizes: Sequence[int], given: View) -> View:
        return activated(values, given, Activation(name))


for _operator, _name in _PLAIN.items():
    _register_plain(_operator, _name)


@lowers("relu6.default")
def _relu6(values: Values, sizes: Sequence[int], given: View) -> View:
    return activated(values, given, Activation("clip", 0.0, 6.0))


def _clipped(low_default: float | None, high_default: float | None) -> Lowering:
    def clip(
        values: Values, sizes: Sequence[int], given: View, first: Any = None, second: Any = None, **named: Any
    ) -> View:  # fmt: skip
        low = named.get("min", named.get("min_val", first))
        high = named.get("max", named.get("max_val", second))
        low, high = low_default if low is None else low, high_default if high is None else high
        return activated(
            values, given, Activation("clip", -_LARGEST if low is None else low, _LARGEST if high is None else high)
        )

    return clip


LOWERINGS["hardtanh.default"] = _clipped(-1.0, 1.0)


LOWERINGS["clamp.default"] = LOWERINGS["clip.default"] = LOWERINGS["clamp_min.default"] = _clipped(None, None)


@lowers("clamp_max.default")
def _clamp_max(values: Values, sizes: Sequence[int], given: View, high: float) -> View:
    return activated(values, given, Activation("clip", -_LARGEST, high))


@lowers("leaky_relu.default")
def _leaky_relu(values: Values, sizes: Sequence[int], given: View, negative_slope: float = 0.01) -> View:
    return activated(values, given, Activation("leaky_relu", negative_slope))


@lowers("elu.default")
def _elu(
    values: Values, sizes: Sequence[int], given: View, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> View:  # fmt: skip
    if input_scale != 1.0:
        raise UnsupportedError("elu with a scaled input")
    return times(values, activated(values, given, Activation("elu", alpha)), scale)


@lowers("celu.default")
def _celu(values: Values, sizes: Sequence[int], given: View, alpha: float = 1.0) -> View:
    scaled = times(values, given, 1.0 / alpha)
    return times(values, activated(values, scaled, Activation("elu", 1.0)), alpha)


@lowers("selu.default")
def _selu(values: Values, sizes: Sequence[int], given: View) -> View:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return times(values, activated(values, given, Activation("elu", alpha)), scale)


@lowers("gelu.default")
def _gelu(values: Values, sizes: Sequence[int], given: View, *, approximate: str = "none") -> View:
    if approximate == "none":
        return activated(values, given, Activation("gelu"))
    # x / 2 * (1 + tanh(u)) = x * sigmoid(2 u) with u = sqrt(2 / pi) * (x + 0.044715 x^3).
    factor = 2.0 * math.sqrt(2.0 / math.pi)
    square = joined(values, sizes, given, given, "mul")
    inner = scaled_and_shifted(values, square, 0.044715 * factor, factor)
    gate = activated(values, joined(values, sizes, given, inner, "mul"), Activation("sigmoid"))
    return joined(values, sizes, given, gate, "mul")


@lowers("prelu.default", "_prelu_kernel.default")
def _prelu(values: Values, sizes: Sequence[int], given: View, slope: Any) -> View:
    slopes = constant(slope, "a slope").ravel()
    if (slopes == slopes[0]).all():
        return activated(values, given, Activation("leaky_relu", float(slopes[0])))
    positive = activated(values, given, Activation("relu"))
    negative = activated(values, times(values, given, -1.0), Activation("relu"))
    return joined(values, sizes, positive, per_channel(values, negative, 1, -slopes, None), "add")


@lowers("softmax.int", "_softmax.default")
def _softmax(values: Values, sizes: Sequence[int], given: View, dim: int, *flags: Any) -> View:
    straight = values.straight(given, dim)
    output = values.new(straight.sizes)
    values.add(Softmax((straight.value,), output.value))
    return channel_back(output, dim)
