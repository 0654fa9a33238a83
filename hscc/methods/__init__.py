"""Compression methods, one dataclass each, in a registry that takes a user's own.

A method has fields for its settings and two functions, ``plan_layers`` and ``factor_layer``; see
`hscc.methods.base.Method`. To add one here, copy `hscc.methods.tucker` and enter an instance in `METHODS` under the
name that ``params.yaml`` and the results table use. Another package enters its own with an entry point of the group
``hscc.methods``, see `hscc.plugins`.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

from hscc.methods.base import Method
from hscc.methods.controls import ALDS, GlobalGroups, RandomChannels, RandomRegions, UniformRanks
from hscc.methods.global_svd import GlobalSVD
from hscc.methods.hscc import HSCC, paper_preset
from hscc.methods.spatial_svd import SpatialSVD
from hscc.methods.tucker import AdaptiveTucker, Tucker
from hscc.plugins import Registry


def _method(value: Any) -> Method:
    """Take a method, or a dataclass of one with its default settings."""
    method = value() if isinstance(value, type) else value
    if not isinstance(method, Method) or not is_dataclass(method):
        raise TypeError(f"{value!r} is not a dataclass with the functions of hscc.methods.base.Method")
    return method


_OWN: dict[str, Method] = {
    "hscc": HSCC(),
    "hscc_direct": HSCC(projection=None),  # regions and clusters alone, without the projection before them
    "hscc_paper": paper_preset(),
    "global_svd": GlobalSVD(),
    "global_svd_adaptive": GlobalSVD(adaptive=True),
    "tucker": Tucker(),
    "tucker_adaptive": AdaptiveTucker(),
    "alds": ALDS(),
    "spatial_svd": SpatialSVD(),
    # What HSCC is without one of its ideas: each differs from hscc_direct in that one.
    "hscc_unclustered": HSCC(clusters=1, projection=None),
    "hscc_unweighted": HSCC(projection=None, weighting="activation"),
    "hscc_uniform": UniformRanks(),
    "global_groups": GlobalGroups(),
    "random_channels": RandomChannels(),
    "random_regions": RandomRegions(),
}
METHODS = Registry("hscc.methods", _OWN, _method)

# Methods that show what one idea of HSCC contributes; nobody deploys them, so they get no int8 variant.
CONTROLS: set[str] = {
    "hscc_direct",
    "hscc_unclustered",
    "hscc_unweighted",
    "hscc_uniform",
    "global_groups",
    "random_channels",
    "random_regions",
}

__all__ = [
    "ALDS",
    "CONTROLS",
    "HSCC",
    "METHODS",
    "AdaptiveTucker",
    "GlobalGroups",
    "GlobalSVD",
    "Method",
    "RandomChannels",
    "RandomRegions",
    "SpatialSVD",
    "Tucker",
    "UniformRanks",
    "paper_preset",
]
