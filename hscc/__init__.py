"""HSCC: convolutional networks made small and fast by hierarchical spatio-channel clustering."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hscc.api import apply, compress, plan
    from hscc.budgets.budget import Budget
    from hscc.budgets.latency_table import LatencyTable, new_table
    from hscc.calibration.collect import Calibration, calibrate
    from hscc.engine.engine import Engine
    from hscc.engine.export import export_engine
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
    from hscc.outputs import Outputs
    from hscc.plans import Plan
    from hscc.refitting.refit import LayerRefit, Refitted, refit
    from hscc.storage import load, save
    from hscc.training.finetuning import Finetuned, Finetuning, finetune

# Resolved on first use: `import hscc` and the command line's --help stay fast, torch is read when it is needed.
_NAMES = {
    "hscc.api": ("apply", "compress", "plan"),
    "hscc.budgets.budget": ("Budget",),
    "hscc.budgets.latency_table": ("LatencyTable", "new_table"),
    "hscc.calibration.collect": ("Calibration", "calibrate"),
    "hscc.engine.engine": ("Engine",),
    "hscc.engine.export": ("export_engine",),
    "hscc.export.card": ("DeploymentCard",),
    "hscc.export.onnx_file": ("export_onnx",),
    "hscc.export.preprocessing": ("Preprocessing",),
    "hscc.export.pt2_file": ("export_pt2",),
    "hscc.methods": (
        "ALDS", "HSCC", "METHODS", "AdaptiveTucker", "GlobalGroups", "GlobalSVD", "RandomChannels", "RandomRegions",
        "SpatialSVD", "Tucker", "paper_preset",
    ),
    "hscc.networks.cost": ("CostReport", "cost"),
    "hscc.outputs": ("Outputs",),
    "hscc.plans": ("Plan",),
    "hscc.refitting.refit": ("LayerRefit", "Refitted", "refit"),
    "hscc.storage": ("load", "save"),
    "hscc.training.finetuning": ("Finetuned", "Finetuning", "finetune"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = [
    "ALDS",
    "HSCC",
    "METHODS",
    "AdaptiveTucker",
    "Budget",
    "Calibration",
    "CostReport",
    "DeploymentCard",
    "Engine",
    "Finetuned",
    "Finetuning",
    "GlobalGroups",
    "GlobalSVD",
    "LatencyTable",
    "LayerRefit",
    "Outputs",
    "Plan",
    "Preprocessing",
    "RandomChannels",
    "RandomRegions",
    "Refitted",
    "SpatialSVD",
    "Tucker",
    "apply",
    "calibrate",
    "compress",
    "cost",
    "export_engine",
    "export_onnx",
    "export_pt2",
    "finetune",
    "load",
    "new_table",
    "paper_preset",
    "plan",
    "refit",
    "save",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'hscc' has no attribute {name!r}")
    from importlib import import_module

    from hscc.errors import requires_extra

    with requires_extra("onnx", f"hscc.{name}"):
        return getattr(import_module(_MODULE_OF[name]), name)
