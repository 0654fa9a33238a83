"""How figures and their errors are written, and what an interval allows to be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hscc.pipeline.statistics.results import signed

REPRODUCED, EXCEEDED, REFUTED, UNDECIDED = "reproduced", "exceeded", "refuted", "undecided"
Z95 = 1.959964  # quantile of the normal distribution


def against_figure(low: float, high: float, figure: float) -> str:
    """Judge a figure of which more is better by our 95 % interval.

    Returns
    -------
    str
        `EXCEEDED` when the whole interval lies above the figure, `REFUTED` when it lies below, `REPRODUCED` when the
        interval holds it.
    """
    if low > figure:
        return EXCEEDED
    return REFUTED if high < figure else REPRODUCED


def of_sign(low: float, high: float) -> str:
    """Judge the claim that a difference is above 0: `UNDECIDED` when the interval holds 0."""
    if low > 0:
        return REPRODUCED
    return REFUTED if high < 0 else UNDECIDED


def percent(row: Mapping[str, Any], name: str = "accuracy") -> str:
    """Show a score in percent with its 95 % interval."""
    return f"{100 * row[name]:.1f} % ({100 * row[f'{name}_low']:.1f} to {100 * row[f'{name}_high']:.1f})"


def score(row: Mapping[str, Any], name: str = "accuracy") -> str:
    """Show a score and its standard error in percent, without the unit."""
    return f"{100 * row[name]:.1f} ± {100 * row[f'{name}_se']:.1f}"


def points(row: Mapping[str, Any], name: str = "accuracy_difference") -> str:
    """Show a difference of accuracies in points with its paired 95 % interval."""
    low, high = signed(100 * row[f"{name}_low"]), signed(100 * row[f"{name}_high"])
    return f"{signed(100 * row[name])} ({low} to {high})"


def divergence(row: Mapping[str, Any], name: str = "kl_difference") -> str:
    """Show a difference of KL divergences in nats with its paired 95 % interval."""
    return f"{signed(row[name], 3)} ({signed(row[f'{name}_low'], 3)} to {signed(row[f'{name}_high'], 3)})"


def p_value(value: float) -> str:
    """Show a p value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def listed(items: list[str]) -> str:
    """Join items as in a sentence; with semicolons where an item has a comma of its own."""
    if any("," in item for item in items):
        return "; ".join(items)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
