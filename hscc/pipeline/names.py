"""Labels of methods, classes and networks for a reader."""

from __future__ import annotations

from hscc.pipeline.statistics.schema import DENSE, AskedBudget, NetworkRow

_METHODS = {
    DENSE: "Dense baseline",
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
_RESOURCES = {"macs": "MACs", "params": "params", "latency": "latency"}


def method_label(method: str) -> str:
    """Name of a method in running text; an unknown one keeps its own, with spaces."""
    return _METHODS.get(method, method.replace("_", " "))


def class_label(name: str) -> str:
    """Name of a class in running text: ``glioma_tumor`` is glioma, ``no_tumor`` stays no tumor."""
    words = name.replace("_", " ")
    return words if words.startswith("no ") else words.removesuffix(" tumor")


def budget_label(budget: AskedBudget) -> str:
    """Budget in running text, such as ``6×`` (MACs alone) or ``MACs 10×, latency 7.5×``; empty for a dense network."""
    ratios = budget.ratios
    if set(ratios) == {"macs"}:
        return f"{ratios['macs']:g}×"
    return ", ".join(f"{_RESOURCES[resource]} {ratio:g}×" for resource, ratio in ratios.items())


def network_label(row: NetworkRow) -> str:
    """Name of a row's network in running text, such as ``HSCC, 6×`` or ``HSCC, latency 7×, int8``."""
    parts = [method_label(row.method), budget_label(row.budget), "" if row.precision == "fp32" else row.precision]
    return ", ".join(part for part in parts if part)
