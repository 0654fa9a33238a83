"""Evaluation mode for a while, with every module's own mode restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
