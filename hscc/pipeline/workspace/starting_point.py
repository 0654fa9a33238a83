"""Where a new workspace differs from the repository's ``params.yaml``: a first run of hours on few cores, not days."""

from __future__ import annotations

from collections.abc import Mapping

from hscc.pipeline.workspace.proposal import Choice

_CELLS = [
    "global_svd_adaptive-macs3-seed0",
    "tucker_adaptive-macs3-seed0",
    "hscc-macs3-seed0",
    "tucker_adaptive-macs6-seed0",
    "hscc-macs6-seed0",
]
_VALUES: Mapping[str, object] = {
    "train.backbone": "resnet18",
    "train.epochs": 20,
    "train.precision": "auto",
    "compress.cells": _CELLS,
    "compress.finetune.precision": "auto",
    "insight.cells": [],
    "register.min_speedup": 1.5,
}

STARTING_POINT = tuple(Choice(key, value) for key, value in _VALUES.items())
"""Values that do not depend on the data."""
