"""The names that ``params.yaml`` may use, without an import of what they stand for: torch alone takes seconds."""

from __future__ import annotations

import sys
from typing import Literal

from hscc.plugins import entry_point_names

Kind = Literal["method", "backbone", "metric"]

OWN: dict[Kind, tuple[str, ...]] = {
    "method": (
        "hscc",
        "hscc_direct",
        "hscc_paper",
        "global_svd",
        "global_svd_adaptive",
        "tucker",
        "tucker_adaptive",
        "alds",
        "spatial_svd",
        "hscc_unclustered",
        "hscc_unweighted",
        "hscc_uniform",
        "global_groups",
        "random_channels",
        "random_regions",
    ),
    "backbone": (
        "alexnet",
        "vgg16",
        "resnet18",
        "resnet50",
        "densenet121",
        "mobilenet_v2",
        "efficientnet_lite0",
        "smallcnn",
        "resnet10_3d",
        "unet",
    ),
    "metric": ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "ece", "brier"),
}
TASK_SCORES: dict[str, tuple[str, ...]] = {  # by which networks of a task can be judged; the usual one first
    "classification": ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc"),
    "segmentation": ("dice", "iou", "sensitivity", "specificity", "pixel_roc_auc"),
    "multilabel": ("roc_auc", "average_precision", "macro_f1", "label_accuracy"),
    "regression": ("r2",),
}
REGISTRIES: dict[Kind, tuple[str, str]] = {  # where the objects are: module and attribute
    "method": ("hscc.methods", "METHODS"),
    "backbone": ("hscc.networks.backbones", "BACKBONES"),
    "metric": ("hscc.pipeline.statistics.metrics", "METRICS"),
}


def known_names(kind: Kind) -> list[str]:
    """List the names of a registry: this package's own, those of entry points, and those that plugins entered.

    Parameters
    ----------
    kind : str
        ``method``, ``backbone`` or ``metric``.

    Returns
    -------
    list of str
        Each name once; this package's own first.
    """
    module, registry = REGISTRIES[kind]
    loaded = sys.modules.get(module)
    if loaded is not None:  # else no plugin has entered anything
        return list(getattr(loaded, registry))
    return list(dict.fromkeys([*OWN[kind], *entry_point_names(f"hscc.{kind}s")]))
