"""The spec of one cell of the sweep: a method, a budget by resource, a seed and a precision.

A cell's name, such as ``hscc-macs10-latency7.5-seed0`` or ``hscc-macs6-seed0-int8``, is written and read here alone;
``hscc-macs6-only-seed0`` is of a budget that bounds nothing but what it names.
It stands for the cell in ``params.yaml`` and in every table, and names the folder that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from hscc.budgets.budget import Budget
from hscc.errors import BudgetError, ParamsError

Precision = Literal["fp32", "int8"]
RESOURCES = ("macs", "params", "latency")  # in the order in which a name states them

_NAME = re.compile(
    r"(?P<method>\w+?)"
    r"(?P<budget>(?:-(?:macs|params|latency)\d+(?:\.\d+)?)+)"
    r"(?P<only>-only)?"
    r"-seed(?P<seed>\d+)"
    r"(?:-(?P<precision>int8))?"
)
_RATIO = re.compile(r"-(macs|params|latency)(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class CellSpec:
    """One compressed network of the sweep.

    Attributes
    ----------
    method : str
        Key of `hscc.methods.METHODS`.
    budget : Budget
        Times less than the dense network, by resource.
    seed : int
        Of clustering and fine-tuning; of the latter alone where the budget has a latency.
    precision : str
        ``fp32``, or ``int8`` for the quantised variant.
    """

    method: str
    budget: Budget
    seed: int = 0
    precision: Precision = "fp32"

    @property
    def name(self) -> str:
        """Such as ``hscc-macs10-latency7.5-seed0``; `parse_cell` reads it."""
        budget = "".join(f"-{resource}{ratio:g}" for resource, ratio in self.budget.ratios.items())
        budget += "-only" * self.budget.only
        suffix = "" if self.precision == "fp32" else f"-{self.precision}"
        return f"{self.method}{budget}-seed{self.seed}{suffix}"

    @property
    def timed(self) -> bool:
        """Whether the budget has a latency, so that the stage ``latency`` makes the plan."""
        return self.budget.latency is not None

    @property
    def any_seed(self) -> CellSpec:
        """The same for all cells that differ in their seed only."""
        return replace(self, seed=0)

    @property
    def int8(self) -> CellSpec:
        """The quantised variant."""
        return replace(self, precision="int8")


def parse_cell(name: str) -> CellSpec:
    """Read a cell's name.

    Parameters
    ----------
    name : str
        Method, then a hyphen and a ratio above 1 for each resource (``macs``, ``params``, ``latency``), ``only`` if the
        rest is left free, then the seed.

    Raises
    ------
    ParamsError
        If it is written otherwise, names a resource twice, or a ratio does not compress.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ParamsError(
            f"cell {name!r} cannot be read; write a method, a ratio for each resource and a seed, such as "
            "hscc-macs6-seed0 or hscc-macs10-latency7.5-seed0."
        )
    ratios = _RATIO.findall(match["budget"])
    if len({resource for resource, _ in ratios}) < len(ratios):
        raise ParamsError(f"cell {name!r} names a resource twice; give each one ratio.")
    try:
        budget = Budget(**{resource: float(ratio) for resource, ratio in ratios}, only=bool(match["only"]))
    except BudgetError as error:
        raise ParamsError(f"cell {name!r}: {error}") from error
    return CellSpec(match["method"], budget, int(match["seed"]), "int8" if match["precision"] else "fp32")


def cell_pattern(methods: Iterable[str]) -> str:
    """Write the regular expression of the names of floating-point cells of some methods."""
    return rf"^({'|'.join(sorted(methods))})(-({'|'.join(RESOURCES)})\d+(\.\d+)?)+(-only)?-seed\d+$"


def first_seeds(cells: Sequence[CellSpec]) -> tuple[CellSpec, ...]:
    """Keep, of cells that differ in their seed only, the one with the lowest; in the order given."""
    lowest: dict[CellSpec, int] = {}
    for cell in cells:
        lowest[cell.any_seed] = min(cell.seed, lowest.get(cell.any_seed, cell.seed))
    return tuple(cell for cell in cells if cell.seed == lowest[cell.any_seed])
