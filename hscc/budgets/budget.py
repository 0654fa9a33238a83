"""How small the network must become."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from hscc.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """How many times less than the dense network, linear layers included. Give one ratio or several.

    Attributes
    ----------
    macs : float, optional
        For example 6 for a sixth of the multiply-accumulates.
    params : float, optional
        For example 3 for a third of the parameters. Regions multiply weights, so a budget of MACs alone may need more
        weights than the dense network has.
    latency : float, optional
        For example 4 for a quarter of the time, on this machine: at every batch size of the
        `hscc.budgets.latency_table.LatencyTable` that the plan is made with.

    Raises
    ------
    BudgetError
        If no ratio is given, or one is not above 1.
    """

    macs: float | None = None
    params: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        if not self.ratios:
            raise BudgetError("a budget needs a ratio; give macs=6, params=6, latency=4 or several.")
        for name, ratio in self.ratios.items():
            if isinstance(ratio, bool) or not isinstance(ratio, int | float):
                raise BudgetError(
                    f"a budget of {name}={ratio!r} is not a number; give a ratio above 1, such as {name}=6."
                )
            if not ratio > 1:
                raise BudgetError(
                    f"a budget of {name}={ratio:g} does not compress; give a ratio above 1, such as {name}=6."
                )

    @property
    def ratios(self) -> dict[str, float]:
        """Resource to ratio, for those that were given; the latency too."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) is not None
        }

    def limits(self, dense: Mapping[str, int]) -> dict[str, int]:
        """Most of each counted resource that the compressed network may have.

        Parameters
        ----------
        dense : mapping
            Resource to the dense network's.
        """
        return {name: int(dense[name] / ratio) for name, ratio in self.ratios.items() if name in dense}

    def __str__(self) -> str:
        """Return the budget in words."""
        words = {"macs": "fewer MACs", "params": "fewer parameters", "latency": "faster"}
        return " and ".join(f"{ratio:g}x {words[name]}" for name, ratio in self.ratios.items())
