"""Evaluation mode for a while, with every module's own mode restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode; afterwards each module is in the mode it was, a frozen one too."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def intercepted(module: nn.Module) -> bool:
    """Whether a call does more than the class's forward: hooks, or a forward put on the object."""
    before, after = module._forward_pre_hooks, module._forward_hooks
    return bool(before or after or module._backward_pre_hooks or module._backward_hooks or "forward" in vars(module))


def held_aside(model: nn.Module) -> set[int]:
    """Ids of modules that plain attributes hold too, such as a list, which a replacement does not reach."""

    def inside(value: Any) -> Iterator[int]:
        if isinstance(value, nn.Module):
            yield id(value)
        elif isinstance(value, dict | list | tuple | set):
            for item in value.values() if isinstance(value, dict) else value:
                yield from inside(item)

    held = (value for module in model.modules() for name, value in vars(module).items() if name != "_modules")
    return {found for value in held for found in inside(value)}


class WeightReaders(TorchFunctionMode):
    """Notes layers whose weight is read while another module, or none, runs."""

    def __init__(self, layers: dict[int, nn.Module]) -> None:
        super().__init__()
        self.owner = {id(t): key for key, layer in layers.items() for t in layer.parameters(recurse=False)}
        self.running: list[int] = []
        self.read: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See `torch.overrides.TorchFunctionMode`."""
        for value in (*args, *(kwargs or {}).values()):
            owner = self.owner.get(id(value))
            if owner is not None and owner not in self.running:
                self.read.add(owner)
        return func(*args, **(kwargs or {}))
