"""How small the network must become."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hscc.errors import BudgetError


@dataclass(frozen=True, init=False)
class Budget:
    """How many times less than the dense network, linear layers included. Give one ratio or several.

    What a budget does not name is bounded too: a network may have no more parameters than the dense one, and by
    `hscc.budgets.estimate.Estimate`, or by the latency table that a plan is made with, take no more time.

    Attributes
    ----------
    macs : float, optional
        For example 6 for a sixth of the multiply-accumulates.
    params : float, optional
        For example 3 for a third of the parameters.
    latency : float, optional
        For example 4 for a quarter of the time, on this machine: at every batch size of the
        `hscc.budgets.latency_table.LatencyTable` that the plan is made with.
    others : tuple of (str, float)
        Ratios of resources that were added to `hscc.budgets.resources.RESOURCES`, by name. They are keywords too:
        ``Budget(macs=6, energy=4)``.
    only : bool
        Whether what the budget does not name is left free. Regions multiply weights, so that a network with a sixth of
        the MACs may then have more weights than the dense one, and need more time.

    Raises
    ------
    BudgetError
        If no ratio is given, one is not above 1, or a resource is unknown.
    """

    macs: float | None
    params: float | None
    latency: float | None
    others: tuple[tuple[str, float], ...]
    only: bool

    def __init__(
        self,
        macs: float | None = None,
        params: float | None = None,
        latency: float | None = None,
        only: bool = False,
        **others: Any,
    ) -> None:
        named = {**dict(others.pop("others", ())), **others}  # `dataclasses.replace` passes the field itself
        added = tuple(sorted((name, ratio) for name, ratio in named.items() if ratio is not None))
        for name, value in (
            ("macs", macs),
            ("params", params),
            ("latency", latency),
            ("others", added),
            ("only", only),
        ):
            object.__setattr__(self, name, value)
        if added:
            self._check_known()
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
        own = {"macs": self.macs, "params": self.params, "latency": self.latency}
        return {name: ratio for name, ratio in own.items() if ratio is not None} | dict(self.others)

    def limits(self, dense: Mapping[str, float]) -> dict[str, float]:
        """Most of each counted resource that the compressed network may have; whole numbers for whole numbers.

        Parameters
        ----------
        dense : mapping
            Resource to the dense network's cost.

        Raises
        ------
        BudgetError
            If a resource of the budget was not counted.
        """
        limits: dict[str, float] = {}
        for name, ratio in self.ratios.items():
            if name == "latency":
                continue  # measured: `hscc.budgets.refinement.latency_limits`
            if name not in dense:
                raise BudgetError(f"the dense network's {name} was not counted; count all resources of {self}.")
            most = dense[name] / ratio
            limits[name] = math.floor(most) if isinstance(dense[name], int) else most
        return limits

    def __str__(self) -> str:
        """Return the budget in words."""
        words = {"macs": "fewer MACs", "params": "fewer parameters", "latency": "faster"}
        asked = " and ".join(f"{ratio:g}x {words.get(name, f'less {name}')}" for name, ratio in self.ratios.items())
        return f"{asked} only" if self.only else asked

    def to_record(self) -> dict[str, float | bool]:
        """Return its entry in plan.json."""
        return {**self.ratios} if self.only else {**self.ratios, "only": False}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Budget:
        """Read `to_record`'s form. Earlier versions wrote the ratios alone, and left everything else free."""
        return cls(**{"only": True, **record})

    def _check_known(self) -> None:
        from hscc.budgets.resources import RESOURCES  # here: it imports torch

        for name, _ in self.others:
            if name not in RESOURCES:
                raise BudgetError(
                    f"a budget of {name} is unknown; take {', '.join([*RESOURCES, 'latency'])}, or add the resource to "
                    "hscc.budgets.resources.RESOURCES."
                )
