"""HSCC: convolutional networks made small and fast by hierarchical spatio-channel clustering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hscc.calibration.collect import Calibration, calibrate
    from hscc.compression.api import apply, compress, plan
    from hscc.compression.budget import Budget
    from hscc.compression.latency import LatencyTable, new_table
    from hscc.compression.methods import (
        ALDS,
        HSCC,
        METHODS,
        AdaptiveTucker,
        GlobalGroups,
        GlobalSVD,
        RandomChannels,
        RandomRegions,
        SpatialSVD,
        Tucker,
        paper_preset,
    )
    from hscc.compression.plan import Plan
    from hscc.compression.storage import load, save
    from hscc.deployment.card import DeploymentCard
    from hscc.deployment.onnx_form import export_onnx
    from hscc.deployment.preprocessing import Preprocessing
    from hscc.deployment.pt2_form import export_pt2
    from hscc.models.counting import CostReport, cost

# Resolved on first use: `import hscc` and the command line's --help stay fast, torch is read when it is needed.
_WHERE = {
    "Calibration": "hscc.calibration.collect",
    "calibrate": "hscc.calibration.collect",
    "apply": "hscc.compression.api",
    "compress": "hscc.compression.api",
    "plan": "hscc.compression.api",
    "CostReport": "hscc.models.counting",
    "cost": "hscc.models.counting",
    "Budget": "hscc.compression.budget",
    "HSCC": "hscc.compression.methods",
    "paper_preset": "hscc.compression.methods",
    "SpatialSVD": "hscc.compression.methods",
    "RandomRegions": "hscc.compression.methods",
    "RandomChannels": "hscc.compression.methods",
    "AdaptiveTucker": "hscc.compression.methods",
    "GlobalGroups": "hscc.compression.methods",
    "ALDS": "hscc.compression.methods",
    "METHODS": "hscc.compression.methods",
    "GlobalSVD": "hscc.compression.methods",
    "Tucker": "hscc.compression.methods",
    "LatencyTable": "hscc.compression.latency",
    "new_table": "hscc.compression.latency",
    "Plan": "hscc.compression.plan",
    "load": "hscc.compression.storage",
    "save": "hscc.compression.storage",
    "DeploymentCard": "hscc.deployment.card",
    "export_onnx": "hscc.deployment.onnx_form",
    "Preprocessing": "hscc.deployment.preprocessing",
    "export_pt2": "hscc.deployment.pt2_form",
}
__all__ = [
    "ALDS",
    "HSCC",
    "METHODS",
    "AdaptiveTucker",
    "Budget",
    "Calibration",
    "CostReport",
    "DeploymentCard",
    "GlobalGroups",
    "GlobalSVD",
    "LatencyTable",
    "Plan",
    "Preprocessing",
    "RandomChannels",
    "RandomRegions",
    "SpatialSVD",
    "Tucker",
    "apply",
    "calibrate",
    "compress",
    "cost",
    "export_onnx",
    "export_pt2",
    "load",
    "new_table",
    "paper_preset",
    "plan",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hscc' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
