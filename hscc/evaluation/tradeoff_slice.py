"""Which settings of regions x clusters x budget x calibration size are tried: not all, the cross would take hours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hscc.evaluation.tradeoff import AUTO, FIXED, Setting

_T = TypeVar("_T")
Structure = tuple[str, int | str, int | str]  # method, regions, clusters


def full_slice(
    regions: Sequence[int], clusters: Sequence[int], searched: Sequence[str], budgets: Sequence[float], images: int
) -> list[list[Setting]]:
    """List every combination of regions and clusters, then every method that chooses, each at every budget.

    Parameters
    ----------
    regions, clusters : sequence of int
        Regions a side and clusters a region.
    searched : sequence of str
        Names of methods in `hscc.METHODS`.
    budgets : sequence of float
        Times fewer MACs.
    images : int
        Size of the full calibration.

    Returns
    -------
    list of list of Setting
        A list a structure, so that its spectra are computed once.
    """
    structures: list[Structure] = [(FIXED, side, number) for side in sorted(regions) for number in sorted(clusters)]
    structures += [(method, AUTO, AUTO) for method in searched]
    return [[Setting(*structure, budget, images) for budget in sorted(budgets)] for structure in structures]


def small_slice(
    regions: Sequence[int], clusters: Sequence[int], budgets: Sequence[float], images: int
) -> list[list[Setting]]:
    """List the coarsest, the middle and the finest combination at the middle budget, for a smaller calibration.

    Returns
    -------
    list of list of Setting
        A list a structure, of one setting each; fewer than three where the grid is smaller.
    """
    sides, numbers, ratios = sorted(regions), sorted(clusters), sorted(budgets)
    structures = [(sides[0], numbers[0]), (_middle(sides), _middle(numbers)), (sides[-1], numbers[-1])]
    budget = _middle(ratios)
    return [[Setting(FIXED, side, number, budget, images)] for side, number in dict.fromkeys(structures)]


def _middle(values: Sequence[_T]) -> _T:
    return values[len(values) // 2]
