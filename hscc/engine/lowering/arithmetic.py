"""Sums, products and the like of two tensors, or of a tensor and a constant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hscc.engine.lowering.arguments import as_tensor
from hscc.engine.lowering.elementwise import covers, joined, times, with_constant
from hscc.engine.lowering.registry import lowers
from hscc.engine.views import UnsupportedError, Values, View


@lowers("add.Tensor", "add.Scalar")
def _add(values: Values, sizes: Sequence[int], a: Any, b: Any, alpha: Any = 1) -> View:
    if isinstance(a, View) and isinstance(b, View):
        return joined(values, sizes, a, b if alpha == 1 else times(values, b, alpha), "add")
    if isinstance(a, View):
        return with_constant(values, a, None, as_tensor(b) * alpha)
    return with_constant(values, times(values, b, alpha), None, as_tensor(a))


@lowers("sub.Tensor", "sub.Scalar")
def _sub(values: Values, sizes: Sequence[int], a: Any, b: Any, alpha: Any = 1) -> View:
    if isinstance(a, View) and isinstance(b, View):
        if covers(a, sizes):
            return joined(values, sizes, a, b if alpha == 1 else times(values, b, alpha), "sub")
        return _add(values, sizes, a, times(values, b, -alpha))
    if isinstance(a, View):
        return with_constant(values, a, None, as_tensor(b) * -alpha)
    return with_constant(values, b, as_tensor(-alpha), as_tensor(a))


@lowers("rsub.Scalar", "rsub.Tensor")
def _rsub(values: Values, sizes: Sequence[int], a: Any, b: Any, alpha: Any = 1) -> View:
    return _sub(values, sizes, b, a, alpha)


@lowers("mul.Tensor", "mul.Scalar")
def _mul(values: Values, sizes: Sequence[int], a: Any, b: Any) -> View:
    if isinstance(a, View) and isinstance(b, View):
        return joined(values, sizes, a, b, "mul")
    return with_constant(values, a, as_tensor(b), None) if isinstance(a, View) else _mul(values, sizes, b, a)


@lowers("div.Tensor", "div.Scalar")
def _div(values: Values, sizes: Sequence[int], a: Any, b: Any) -> View:
    if isinstance(a, View) and isinstance(b, View):
        return joined(values, sizes, a, b, "div")
    if not isinstance(a, View):
        raise UnsupportedError("a constant divided by a computed tensor")
    return with_constant(values, a, 1.0 / as_tensor(b).double(), None)


@lowers("neg.default")
def _neg(values: Values, sizes: Sequence[int], given: View) -> View:
    return times(values, given, -1.0)


@lowers("maximum.default")
def _maximum(values: Values, sizes: Sequence[int], a: Any, b: Any) -> View:
    return joined(values, sizes, _computed(a), _computed(b), "max")


@lowers("minimum.default")
def _minimum(values: Values, sizes: Sequence[int], a: Any, b: Any) -> View:
    return joined(values, sizes, _computed(a), _computed(b), "min")


@lowers("pow.Tensor_Scalar")
def _pow(values: Values, sizes: Sequence[int], given: View, exponent: float) -> View:
    if exponent not in (1, 2, 3):
        raise UnsupportedError(f"a power of {exponent}")
    result = given
    for _ in range(int(exponent) - 1):
        result = joined(values, sizes, result, given, "mul")
    return result


@lowers("square.default")
def _square(values: Values, sizes: Sequence[int], given: View) -> View:
    return joined(values, sizes, given, given, "mul")


def _computed(operand: Any) -> View:
    if not isinstance(operand, View):
        raise UnsupportedError("the larger or smaller of a constant and a computed tensor")
    return operand
