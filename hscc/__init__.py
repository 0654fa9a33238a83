"""HSCC: convolutional networks made small and fast by hierarchical spatio-channel clustering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hscc.api import apply, compress, plan
    from hscc.budgets.budget import Budget
    from hscc.budgets.latency_table import LatencyTable, new_table
    from hscc.calibration.collect import Calibration, calibrate
    from hscc.export.card import DeploymentCard
    from hscc.export.onnx_file import export_onnx
    from hscc.export.preprocessing import Preprocessing
    from hscc.export.pt2_file import export_pt2
    from hscc.methods import (
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
    from hscc.networks.cost import CostReport, cost
    from hscc.plans import Plan
    from hscc.storage import load, save

# Resolved on first use: `import hscc` and the command line's --help stay fast, torch is read when it is needed.
_WHERE = {
    "Calibration": "hscc.calibration.collect",
    "calibrate": "hscc.calibration.collect",
    "apply": "hscc.api",
    "compress": "hscc.api",
    "plan": "hscc.api",
    "CostReport": "hscc.networks.cost",
    "cost": "hscc.networks.cost",
    "Budget": "hscc.budgets.budget",
    "HSCC": "hscc.methods",
    "paper_preset": "hscc.methods",
    "SpatialSVD": "hscc.methods",
    "RandomRegions": "hscc.methods",
    "RandomChannels": "hscc.methods",
    "AdaptiveTucker": "hscc.methods",
    "GlobalGroups": "hscc.methods",
    "ALDS": "hscc.methods",
    "METHODS": "hscc.methods",
    "GlobalSVD": "hscc.methods",
    "Tucker": "hscc.methods",
    "LatencyTable": "hscc.budgets.latency_table",
    "new_table": "hscc.budgets.latency_table",
    "Plan": "hscc.plans",
    "load": "hscc.storage",
    "save": "hscc.storage",
    "DeploymentCard": "hscc.export.card",
    "export_onnx": "hscc.export.onnx_file",
    "Preprocessing": "hscc.export.preprocessing",
    "export_pt2": "hscc.export.pt2_file",
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
