"""What was gained and what it cost, in words that the figures carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hscc.evaluation.names import network_label
from hscc.evaluation.results import Row, candidate_rows, dense_row, preference

Pair = Mapping[str, Any]


def recommended(rows: Sequence[Row], protocol: str) -> Row:
    """Pick the network that the report speaks about: see `hscc.evaluation.results.preference`."""
    return min(candidate_rows(rows, protocol), key=preference)


def headline(rows: Sequence[Row], protocol: str) -> str:
    """Say in one sentence what the recommended network gains and costs.

    Parameters
    ----------
    rows : sequence of dict
        The results table.
    protocol : str
        The protocol of the compressed networks.

    Returns
    -------
    str
        Every figure with its error; a difference whose paired 95 % interval covers 0 is called within noise.
    """
    row, dense = recommended(rows, protocol), dense_row(rows, protocol)
    return (
        f"{network_label(row)}: {row['macs_ratio']:.1f} times fewer MACs, {_speed(row)}; test accuracy "
        f"{percent(row, 'accuracy')} against {percent(dense, 'accuracy')} of the dense network, {_cost(row)}."
    )


def percent(row: Mapping[str, Any], name: str) -> str:
    """Show a score and its standard error in percent."""
    return f"{100 * row[name]:.1f} ± {100 * row[f'{name}_se']:.1f} %"


def points(pair: Pair, name: str = "accuracy") -> str:
    """Show a difference of scores and its standard error in percentage points."""
    return f"{signed(100 * pair[f'{name}_difference'])} ± {100 * pair[f'{name}_difference_se']:.1f} points"


def signed(value: float, digits: int = 1) -> str:
    """Show a number with its sign, a true minus, and no sign where it rounds to 0."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"+{text}" if value > 0 else f"−{text}"


def covers_zero(pair: Pair, name: str = "accuracy") -> bool:
    """Whether the paired 95 % interval of a difference covers 0."""
    return bool(pair[f"{name}_difference_low"] <= 0 <= pair[f"{name}_difference_high"])


def _speed(row: Mapping[str, Any]) -> str:
    speedup, iqr = row.get("speedup_b1"), row.get("speedup_b1_iqr")
    if speedup is None or iqr is None:
        return "not timed one image at a time"
    if abs(speedup - 1) <= iqr / 2:
        return f"a speed-up of {speedup:.2f} one image at a time, which the clock (IQR {iqr:.2f}) cannot tell from 1"
    if speedup < 1:
        return f"yet {1 / speedup:.1f} times slower one image at a time"
    return f"{speedup:.1f} times faster one image at a time"


def _cost(row: Mapping[str, Any]) -> str:
    if covers_zero(row):
        return f"{points(row)}: within noise on {row['n_test']} images"
    kind = "a gain" if row["accuracy_difference"] > 0 else "a loss"
    return f"{points(row)}: {kind} beyond noise on {row['n_test']} images"
