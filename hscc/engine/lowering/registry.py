"""Which function lowers which ATen operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

Result: TypeAlias = Any  # a View, or a list of views for an operator with several results
Lowering: TypeAlias = Callable[..., Result]
_Function = TypeVar("_Function", bound=Lowering)
LOWERINGS: dict[str, Lowering] = {}


def lowers(*operators: str) -> Callable[[_Function], _Function]:
    """Register a function for operators such as ``conv2d.default`` of ATen.

    The function takes the program's values, the sizes of the result, and the operator's arguments: views for what
    depends on the network's input, tensors for constants.
    """

    def register(function: _Function) -> _Function:
        LOWERINGS.update(dict.fromkeys(operators, function))
        return function

    return register
