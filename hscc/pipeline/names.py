"""How methods and classes are called in front of a reader."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_METHODS = {
    "dense": "Dense baseline",
    "hscc": "HSCC",
    "hscc_direct": "HSCC, no projection",
    "hscc_paper": "HSCC as the paper has it",
    "hscc_unclustered": "HSCC, no clusters",
    "hscc_unweighted": "HSCC, outputs not weighted",
    "hscc_uniform": "HSCC, uniform ranks",
    "global_groups": "HSCC, no regions",
    "random_channels": "HSCC, random channel groups",
    "random_regions": "HSCC, random regions",
    "alds": "ALDS groups",
    "spatial_svd": "Spatial SVD",
    "global_svd": "Global SVD",
    "global_svd_adaptive": "Global SVD, adaptive",
    "tucker": "Tucker-2",
    "tucker_adaptive": "Tucker-2, adaptive",
}
_GOALS = {"_timed": "timed", "_fast": "fast"}


def method_label(method: str) -> str:
    """Name of a method in running text; an unknown one keeps its own, with spaces."""
    for suffix, word in _GOALS.items():
        if method.removesuffix(suffix) in _METHODS and method.endswith(suffix):
            return f"{_METHODS[method.removesuffix(suffix)]}, {word}"
    return _METHODS.get(method, method.replace("_", " "))


def goal(method: str) -> str:
    """Suffix of a method that says what its ratio is of: none for MACs, ``_timed`` for time, ``_fast`` for both."""
    return next((suffix for suffix in _GOALS if method.endswith(suffix)), "")


def class_label(name: str) -> str:
    """Name of a class in running text: ``glioma_tumor`` is glioma, ``no_tumor`` stays no tumor."""
    words = name.replace("_", " ")
    return words if words.startswith("no ") else words.removesuffix(" tumor")


def network_label(row: Mapping[str, Any]) -> str:
    """Name of a row's network in running text, such as ``HSCC, 6x`` or ``HSCC, 6x, int8``."""
    label = method_label(row["method"])
    name = label if row["method"] == "dense" else f"{label}, {row['budget']:g}×"
    return f"{name}, int8" if row.get("precision") == "int8" else name
