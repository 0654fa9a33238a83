"""Compression methods: a dataclass each, in a registry that takes a user's own.

A method has fields for its settings and one verb, ``plan_layers``. To add one, copy `hscc.compression.methods.tucker`
and enter an instance in `METHODS` under the name that ``params.yaml`` and the results table use.
"""

from __future__ import annotations

from hscc.compression.methods.base import Method
from hscc.compression.methods.global_svd import GlobalSVD
from hscc.compression.methods.hscc import HSCC
from hscc.compression.methods.tucker import Tucker

METHODS: dict[str, Method] = {
    "hscc": HSCC(),
    "hscc_tiles": HSCC(regions=((1, 1), (2, 2), (4, 4))),  # less loss for the same MACs, dearer on the clock
    "global_svd": GlobalSVD(),
    "global_svd_adaptive": GlobalSVD(adaptive=True),
    "tucker": Tucker(),
}

__all__ = ["HSCC", "METHODS", "GlobalSVD", "Method", "Tucker"]
