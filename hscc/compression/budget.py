"""How small the network must become."""

from __future__ import annotations

from dataclasses import dataclass

from hscc.errors import BudgetError


@dataclass(frozen=True)
class Budget:
    """How many times fewer multiply-accumulates than the dense network, linear layers included.

    Attributes
    ----------
    macs : float
        For example 6 for a sixth of the MACs.

    Raises
    ------
    BudgetError
        If the ratio is not above 1.
    """

    macs: float

    def __post_init__(self) -> None:
        if not self.macs > 1:
            raise BudgetError(f"a budget of macs={self.macs:g} does not compress; give a ratio above 1, such as 6.")

    def limit(self, dense_macs: int) -> int:
        """Most MACs that the compressed network may have."""
        return int(dense_macs / self.macs)
