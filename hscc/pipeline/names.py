"""Labels of methods and networks for a reader."""

from __future__ import annotations

from collections.abc import Mapping

from hscc.budgets.budget import Budget
from hscc.errors import ParamsError
from hscc.pipeline.cell_spec import parse_cell
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
_RESOURCES = {"macs": "fewer MACs", "params": "fewer parameters", "latency": "faster"}


def method_label(method: str) -> str:
    """Name of a method in running text; an unknown one keeps its own, with spaces."""
    return _METHODS.get(method, method.replace("_", " "))


def budget_label(ratios: Mapping[str, float]) -> str:
    """Ratios by resource in running text, such as ``10× fewer MACs and 7.5× faster``; empty for a dense network."""
    return " and ".join(f"{ratios[name]:g}× {words}" for name, words in _RESOURCES.items() if name in ratios)


def network_label(row: NetworkRow) -> str:
    """Name of a row's network in running text, such as ``HSCC, 10× fewer MACs and 7.5× faster, in int8``."""
    return _joined(row.method, _asked(row.budget), row.precision)


def cell_label(name: str) -> str:
    """Name of a cell in running text; see `network_label`. A name that is no cell's stays as it is."""
    try:
        spec = parse_cell(name)
    except ParamsError:
        return name
    return _joined(spec.method, _asked(spec.budget), spec.precision)


def _asked(budget: Budget | AskedBudget) -> str:
    return budget_label(budget.ratios) + " only" * budget.only


def _joined(method: str, asked: str, precision: str) -> str:
    parts = [method_label(method), asked, "" if precision == "fp32" else f"in {precision}"]
    return ", ".join(part for part in parts if part)


def table_label(row: NetworkRow) -> str:
    """Name of a row's network in a table that has its budget in columns of their own."""
    return _joined(row.method, "only what was asked" * row.budget.only, row.precision)
