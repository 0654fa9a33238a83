"""Who reads a layer's weight besides the layer itself."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode


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
