"""Whole compressed networks run by the package's own C++ library: one file, no layout change inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hscc.engine.engine import Engine
    from hscc.engine.export import export_engine
    from hscc.engine.library import available

_MODULE_OF = {
    "Engine": "hscc.engine.engine",
    "available": "hscc.engine.library",
    "export_engine": "hscc.engine.export",
}
__all__ = ["Engine", "available", "export_engine"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'hscc.engine' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULE_OF[name]), name)
