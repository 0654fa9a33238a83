"""How figures and their errors are written in a sentence, and what an interval allows to be said."""

from __future__ import annotations

from collections.abc import Sequence

from hscc.pipeline.report.table import chance, difference, with_error, with_interval
from hscc.pipeline.statistics.schema import Estimate

REPRODUCED, EXCEEDED, REFUTED, UNDECIDED = "reproduced", "exceeded", "refuted", "undecided"
Z95 = 1.959964  # quantile of the normal distribution

RUNTIME_NAMES = {
    "engine": "HSCC's engine", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch, eager",
}  # fmt: skip

_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


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


def of_sign(found: Estimate) -> str:
    """Judge the claim that a difference is above 0: `UNDECIDED` when the interval holds 0 or there is none."""
    if found.low is None or found.high is None or found.covers_zero:
        return UNDECIDED
    return REPRODUCED if found.low > 0 else REFUTED


def percent(found: Estimate) -> str:
    """Write a score in percent with its 95 % interval."""
    cell = with_interval(found)
    return f"{cell.text} % {cell.aside}".rstrip()


def score(found: Estimate) -> str:
    """Write a score and its standard error in percent, without the unit."""
    return str(with_error(found, 1, 100.0))


def points(found: Estimate) -> str:
    """Write a difference of scores in percentage points with its 95 % interval, without the unit."""
    return str(difference(found))


def p_value(value: float) -> str:
    """Write a p-value."""
    return chance(value).text


def listed(items: Sequence[str]) -> str:
    """Join items as in a sentence; with semicolons where an item has a comma of its own."""
    if any("," in item for item in items):
        return "; ".join(items)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def count(number: int) -> str:
    """Write a small number in words."""
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)
