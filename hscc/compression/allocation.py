"""Ranks and structures under a budget: a Lagrangian over every eigenvalue of every cluster of every layer.

For a price per multiply-accumulate each cluster keeps the ranks that save more than they cost, and each layer the
structure (dense included) with the smallest loss plus price times cost. Bisection on the price meets the budget from
below; what is left over is spent on the best remaining ranks (Everett, 1963, generalised Lagrange multipliers).
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hscc.errors import BudgetError

_BISECTIONS = 60


@dataclass(frozen=True)
class Cluster:
    """What ranks of one cluster save and cost.

    Attributes
    ----------
    gains : ndarray of float64, shape (steps,)
        Loss saved by each further step of `multiple` ranks, non-increasing.
    cost : ndarray of int64, shape (steps,)
        MACs of each step (the last may be shorter).
    ranks : ndarray of int64, shape (steps,)
        Ranks of each step.
    """

    gains: npt.NDArray[np.float64]
    cost: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Candidate:
    """One structure of one layer: its clusters, flat, in the order of regions and blocks."""

    clusters: tuple[Cluster, ...]


@dataclass(frozen=True)
class Choice:
    """What was decided for one layer.

    Attributes
    ----------
    candidate : int
        Index into the layer's candidates; -1 for dense.
    steps : tuple of int
        Steps kept of each cluster.
    """

    candidate: int
    steps: tuple[int, ...]


def make_cluster(values: npt.NDArray[np.float64], macs_per_rank: int, multiple: int) -> Cluster:
    """Gather eigenvalues (largest first) into steps of `multiple` ranks."""
    ranks = np.diff(np.append(np.arange(0, len(values), multiple), len(values)))
    gains = np.add.reduceat(values, np.arange(0, len(values), multiple)) if len(values) else np.zeros(0)
    # A shorter last step could gain more per MAC than a rounding error before it; keep the order non-increasing.
    per_rank = np.minimum.accumulate(gains / np.maximum(ranks, 1))
    return Cluster(per_rank * ranks, (ranks * macs_per_rank).astype(np.int64), ranks.astype(np.int64))


def allocate(layers: list[list[Candidate]], dense_costs: list[int], budget: int) -> list[Choice]:
    """Choose structures and ranks so that the total cost does not exceed the budget.

    Parameters
    ----------
    layers : list of list of Candidate
        Candidates of each layer.
    dense_costs : list of int
        MACs of each layer left dense.
    budget : int
        MACs for all these layers together.

    Returns
    -------
    list of Choice
        One a layer.

    Raises
    ------
    BudgetError
        If even the cheapest choice costs more.
    """
    floor = sum(_cheapest(candidates, dense) for candidates, dense in zip(layers, dense_costs, strict=True))
    if floor > budget:
        raise BudgetError(
            f"a budget of {budget:,} MACs cannot be reached; the fewest ranks in every layer need {floor:,}."
        )
    low, high = -60.0, 60.0  # log2 of the price
    choices = _decide(layers, dense_costs, 2.0**high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        decided = _decide(layers, dense_costs, 2.0**middle)
        if _total(layers, dense_costs, decided) <= budget:
            high, choices = middle, decided
        else:
            low = middle
    return _spend_rest(layers, dense_costs, choices, budget)


def _decide(layers: list[list[Candidate]], dense_costs: list[int], price: float) -> list[Choice]:
    return [
        _decide_layer(candidates, dense, price) for candidates, dense in zip(layers, dense_costs, strict=True)
    ]  # fmt: skip


def _decide_layer(candidates: list[Candidate], dense: int, price: float) -> Choice:
    best, chosen = price * dense, Choice(-1, ())
    for index, candidate in enumerate(candidates):
        steps = _steps(candidate, price)
        loss = sum(float(c.gains[n:].sum()) for c, n in zip(candidate.clusters, steps, strict=True))
        cost = sum(int(c.cost[:n].sum()) for c, n in zip(candidate.clusters, steps, strict=True))
        if loss + price * cost < best:
            best, chosen = loss + price * cost, Choice(index, steps)
    return chosen


def _steps(candidate: Candidate, price: float) -> tuple[int, ...]:
    steps = [int(np.searchsorted(-(c.gains / c.cost), -price, side="left")) for c in candidate.clusters]
    if not any(steps):  # a layer must pass something on: the step that is worth most at this price
        first = [c.gains[0] - price * c.cost[0] if len(c.gains) else -math.inf for c in candidate.clusters]
        steps[int(np.argmax(first))] = 1
    return tuple(steps)


def _total(layers: list[list[Candidate]], dense_costs: list[int], choices: list[Choice]) -> int:
    return sum(
        dense if choice.candidate < 0 else _cost(candidates[choice.candidate], choice.steps)
        for candidates, dense, choice in zip(layers, dense_costs, choices, strict=True)
    )


def _cost(candidate: Candidate, steps: tuple[int, ...]) -> int:
    return sum(int(c.cost[:n].sum()) for c, n in zip(candidate.clusters, steps, strict=True))


def _cheapest(candidates: list[Candidate], dense: int) -> int:
    return min([dense, *(min(int(c.cost[0]) for c in cand.clusters if len(c.cost)) for cand in candidates)])


def _spend_rest(
    layers: list[list[Candidate]], dense_costs: list[int], choices: list[Choice], budget: int
) -> list[Choice]:
    left = budget - _total(layers, dense_costs, choices)
    steps = [list(choice.steps) for choice in choices]
    queue: list[tuple[float, int, int]] = []

    def offer(layer: int, cluster: int) -> None:
        entry = layers[layer][choices[layer].candidate].clusters[cluster]
        done = steps[layer][cluster]
        if done < len(entry.gains):
            heapq.heappush(queue, (-float(entry.gains[done]) / int(entry.cost[done]), layer, cluster))

    for layer, choice in enumerate(choices):
        if choice.candidate >= 0:
            for cluster in range(len(choice.steps)):
                offer(layer, cluster)
    while queue:
        _, layer, cluster = heapq.heappop(queue)
        cost = int(layers[layer][choices[layer].candidate].clusters[cluster].cost[steps[layer][cluster]])
        # A factored layer that would cost more than dense is no use; what does not fit is passed over for good.
        spent = _cost(layers[layer][choices[layer].candidate], tuple(steps[layer]))
        if cost <= left and spent + cost < dense_costs[layer]:
            left -= cost
            steps[layer][cluster] += 1
            offer(layer, cluster)
    return [
        Choice(choice.candidate, tuple(row)) for choice, row in zip(choices, steps, strict=True)
    ]  # fmt: skip
