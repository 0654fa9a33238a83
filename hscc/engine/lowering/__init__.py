"""ATen operators, as torch.export leaves them, in terms of the program's operations: a module for each kind."""

from __future__ import annotations

from hscc.engine.lowering import activations, arithmetic, joins, layers, moving, norms, windows
from hscc.engine.lowering.moving import moved, moves
from hscc.engine.lowering.registry import LOWERINGS

__all__ = ["LOWERINGS", "activations", "arithmetic", "joins", "layers", "moved", "moves", "moving", "norms", "windows"]
