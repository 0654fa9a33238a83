"""What a cell's name asks for: a method, and a budget of MACs, of milliseconds, or of both."""

from __future__ import annotations

from dataclasses import dataclass

from hscc.budgets.budget import Budget
from hscc.errors import ParamsError
from hscc.methods import METHODS

EFFICIENCY = 0.75  # share of the saved MACs that a "_fast" cell must show on the clock


@dataclass(frozen=True)
class Goal:
    """A method and its budget.

    Attributes
    ----------
    method : str
        Key of `hscc.methods.METHODS`.
    budget : Budget
        What to plan for.
    """

    method: str
    budget: Budget

    @property
    def timed(self) -> bool:
        """Whether the clock has a say."""
        return self.budget.latency is not None


def goal_of(name: str, ratio: float) -> Goal:
    """Read a cell's method as it is written in ``params.yaml``, with its ratio.

    ``hscc`` asks for so many times fewer MACs, ``hscc_timed`` for so many times less time, ``hscc_fast`` for so many
    times fewer MACs of which `EFFICIENCY` show on the clock.

    Raises
    ------
    ParamsError
        If the method is unknown.
    """
    if name in METHODS:
        return Goal(name, Budget(macs=ratio))
    for suffix, budget in (
        ("_timed", Budget(latency=ratio)),
        ("_fast", Budget(macs=ratio, latency=max(EFFICIENCY * ratio, 1.01))),
    ):
        if name.removesuffix(suffix) in METHODS and name.endswith(suffix):
            return Goal(name.removesuffix(suffix), budget)
    raise ParamsError(
        f"method {name!r} is unknown; choose one of {', '.join(sorted(METHODS))}, with _timed behind it for a budget "
        "of time or _fast for one of both."
    )


def parse_cell(cell: str) -> tuple[str, float]:
    """Split a cell's name, such as ``hscc_timed-5``, into method and ratio.

    Raises
    ------
    ParamsError
        If it is not a method, a hyphen and a number above 1.
    """
    method, _, ratio = cell.rpartition("-")
    try:
        value = float(ratio)
    except ValueError:
        value = 0.0
    if not method or value <= 1:
        raise ParamsError(f"cell {cell!r} is not a method, a hyphen and a ratio above 1, such as hscc_timed-5.")
    return method, value
