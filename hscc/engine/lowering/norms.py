"""Batch, group, instance and layer norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hscc.engine.lowering.arguments import channel_back, constant, optional_constant
from hscc.engine.lowering.elementwise import per_channel
from hscc.engine.lowering.registry import lowers
from hscc.engine.program import Norm
from hscc.engine.views import UnsupportedError, Values, View


@lowers("batch_norm.default")
def _batch_norm(
    values: Values, sizes: Sequence[int], given: View, weight: Any, bias: Any, mean: Any, variance: Any, training: bool,
    momentum: float, eps: float, *flags: Any,
) -> View:  # fmt: skip
    if training or mean is None:
        raise UnsupportedError("batch norm with the statistics of the batch")
    deviation = np.sqrt(constant(variance, "a variance").astype(np.float64) + eps)
    scale = (1.0 if weight is None else constant(weight, "a weight")) / deviation
    shift = (0.0 if bias is None else constant(bias, "a bias")) - constant(mean, "a mean") * scale
    return per_channel(values, given, 1, scale, shift)


@lowers("_native_batch_norm_legit_no_training.default")
def _inference_batch_norm(
    values: Values, sizes: Any, given: View, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float,
    eps: float,
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
    values.add(Norm((given.value,), output.value, groups, eps, optional_constant(weight), optional_constant(bias)))
    return output


@lowers("layer_norm.default")
def _layer_norm(
    values: Values, sizes: Sequence[int], given: View, normalized: Sequence[int], weight: Any = None, bias: Any = None,
    eps: float = 1e-5, *flags: Any,
) -> View:  # fmt: skip
    if len(normalized) == 1:
        straight = values.straight(given, -1)
        output = values.new(straight.sizes)
        values.add(Norm((straight.value,), output.value, 0, eps, optional_constant(weight), optional_constant(bias)))
        return channel_back(output, -1)
    if len(normalized) != len(given.sizes) - 1:
        raise UnsupportedError(f"layer norm over {len(normalized)} of {len(given.sizes) - 1} dimensions")
    vectors = []
    for tensor in (weight, bias):
        vector = optional_constant(tensor)
        if vector is not None:
            flat = vector.reshape(len(vector), -1)
            if (flat != flat[:, :1]).any():
                raise UnsupportedError("layer norm with weights that differ between positions")
            vector = np.ascontiguousarray(flat[:, 0])
        vectors.append(vector)
    given, output = values.straight(given), values.new(sizes)
    values.add(Norm((given.value,), output.value, 1, eps, vectors[0], vectors[1]))
    return output
