"""Ranks and structures under a budget: a Lagrangian over every eigenvalue of every cluster of every layer.

At given prices of the resources each cluster keeps the ranks that save more loss than they cost, and each layer the
structure (dense included) with the smallest loss plus price times cost. Bisection on the price level meets the budget
from below; what is left over is spent on the best remaining ranks (Everett, 1963, generalised Lagrange multipliers).
With more than one resource the prices' proportions follow use: a resource that is not used up becomes cheaper.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

_BISECTIONS = 60
_PROPORTIONS = 16  # rounds that adapt the proportions of several prices


@dataclass(frozen=True)
class Cluster:
    """What ranks of one cluster save and cost.

    Attributes
    ----------
    saved : ndarray of float64, shape (steps,)
        Loss saved by each further step of ranks, non-increasing per rank.
    ranks : ndarray of int64, shape (steps,)
        Ranks of each step.
    cost : ndarray of float64, shape (resources,)
        Of one rank.
    """

    saved: Vector
    ranks: npt.NDArray[np.int64]
    cost: Vector


@dataclass(frozen=True)
class Candidate:
    """One structure of one layer: its clusters, flat, in the order of regions and blocks.

    Attributes
    ----------
    clusters : tuple of Cluster
        At least one with a step.
    fixed : ndarray of float64, shape (resources,)
        Cost at rank 0.
    lost : float
        Loss that remains at any rank.
    """

    clusters: tuple[Cluster, ...]
    fixed: Vector
    lost: float = 0.0


@dataclass(frozen=True)
class LayerOptions:
    """What a layer may become.

    Attributes
    ----------
    candidates : tuple of Candidate
        Low-rank structures.
    dense : ndarray of float64, shape (resources,)
        Cost of leaving it dense, which loses nothing.
    """

    candidates: tuple[Candidate, ...]
    dense: Vector


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


DENSE = Choice(-1, ())


class UnreachableError(Exception):
    """No choice meets the limits.

    Attributes
    ----------
    smallest : ndarray of float64, shape (resources,)
        Least of each resource that the layers can do with, each on its own.
    """

    def __init__(self, smallest: Vector) -> None:
        super().__init__(f"the layers need at least {smallest}")
        self.smallest = smallest


def make_cluster(values: Vector, cost: Sequence[float], multiple: int) -> Cluster:
    """Gather eigenvalues (largest first) into steps of `multiple` ranks."""
    starts = np.arange(0, len(values), multiple)
    ranks = np.diff(np.append(starts, len(values)))
    gains = np.add.reduceat(values, starts) if len(values) else np.zeros(0)
    # A shorter last step could gain more per rank than a rounding error before it; keep the order non-increasing.
    per_rank = np.minimum.accumulate(gains / np.maximum(ranks, 1))
    return Cluster(per_rank * ranks, ranks.astype(np.int64), np.asarray(cost, dtype=np.float64))


def loss_of(layers: Sequence[LayerOptions], choices: Sequence[Choice]) -> float:
    """Loss that the choices do not save, and that their structures have at any rank, summed over layers."""
    return sum(
        _loss(layer.candidates[choice.candidate], choice.steps)
        for layer, choice in zip(layers, choices, strict=True)
        if choice.candidate >= 0
    )


def _loss(candidate: Candidate, steps: Sequence[int]) -> float:
    forgone = (float(c.saved[kept:].sum()) for c, kept in zip(candidate.clusters, steps, strict=True))
    return candidate.lost + sum(forgone)


def cost_of(layers: Sequence[LayerOptions], choices: Sequence[Choice]) -> Vector:
    """Cost of all choices together, shape (resources,)."""
    costs = [_layer_cost(layer, choice) for layer, choice in zip(layers, choices, strict=True)]
    return np.asarray(np.sum(costs, axis=0))


def allocate(layers: Sequence[LayerOptions], limits: Sequence[float]) -> list[Choice]:
    """Choose structures and ranks so that no resource is used beyond its limit.

    Parameters
    ----------
    layers : sequence of LayerOptions
        What each layer may become.
    limits : sequence of float, one per resource
        For all these layers together.

    Returns
    -------
    list of Choice
        One per layer.

    Raises
    ------
    UnreachableError
        If even the cheapest choices exceed a limit.
    """
    limit = np.asarray(limits, dtype=np.float64)
    smallest = np.sum([_smallest(layer) for layer in layers], axis=0)
    if (smallest > limit).any():
        raise UnreachableError(smallest)
    scale = 1 / limit
    best: tuple[float, list[Choice]] | None = None
    proportions = np.ones(len(limit))
    for _ in range(_PROPORTIONS if len(limit) > 1 else 1):
        prices = proportions / proportions.sum() * scale
        choices, met = _at_proportions([_SortedLayer(layer, prices) for layer in layers], limit)
        if met:
            filled = _spend_rest(layers, choices, limit, prices)
            loss = loss_of(layers, filled)
            if best is None or loss < best[0]:
                best = (loss, filled)
        use = cost_of(layers, choices) * scale
        proportions = proportions / proportions.max() * np.maximum(use, 1e-3) ** 2
        proportions = np.maximum(proportions, 1e-9)
    if best is None:
        raise UnreachableError(smallest)
    return best[1]


class _SortedLayer:
    """A layer's candidates with their rank steps in the order in which a falling price takes them."""

    def __init__(self, layer: LayerOptions, prices: Vector) -> None:
        self.layer, self.prices = layer, prices
        self.candidates = [_SortedCandidate(candidate, prices) for candidate in layer.candidates]

    def at(self, level: float) -> Choice:
        best, chosen = level * float(self.layer.dense @ self.prices), DENSE
        for index, candidate in enumerate(self.candidates):
            value, steps = candidate.at(level)
            if value < best:
                best, chosen = value, Choice(index, steps)
        return chosen


class _SortedCandidate:
    """The rank steps of one candidate, those that save most for their price first."""

    def __init__(self, candidate: Candidate, prices: Vector) -> None:
        owner = np.concatenate([np.full(len(c.saved), i) for i, c in enumerate(candidate.clusters)])
        saved = np.concatenate([c.saved for c in candidate.clusters])
        price = np.concatenate([c.ranks * float(c.cost @ prices) for c in candidate.clusters])
        per_price = _per_price(saved, price)
        order = np.argsort(-per_price, kind="stable")
        self.clusters, self.owner = len(candidate.clusters), owner[order]
        self.saved, self.price, self.per_price = saved[order], price[order], per_price[order]
        self.first = np.unique(self.owner, return_index=True)[1]  # where each cluster's first step comes
        self.fixed, total = float(candidate.fixed @ prices), float(saved.sum())
        self.losses = candidate.lost + np.maximum(total - np.concatenate([[0.0], np.cumsum(self.saved)]), 0.0)
        self.costs = self.fixed + np.concatenate([[0.0], np.cumsum(self.price)])

    def at(self, level: float) -> tuple[float, tuple[int, ...]]:
        count = int(np.searchsorted(-self.per_price, -level, side="left"))
        if count:
            kept = np.bincount(self.owner[:count], minlength=self.clusters)
            return self.losses[count] + level * self.costs[count], tuple(int(number) for number in kept)
        # A layer must have some rank: the step that saves most net of its price.
        first = int(self.first[np.argmax(self.saved[self.first] - level * self.price[self.first])])
        value = self.losses[0] - self.saved[first] + level * (self.fixed + self.price[first])
        return float(value), tuple(int(cluster == self.owner[first]) for cluster in range(self.clusters))


def _per_price(saved: Vector, price: Vector) -> Vector:
    """Loss saved per unit of price. A free step is always taken."""
    with np.errstate(over="ignore"):  # a price next to nothing: as good as free
        per_price: Vector = np.divide(saved, price, out=np.full(len(saved), np.inf), where=price > 0)
    return per_price


def _at_proportions(sorted_layers: list[_SortedLayer], limit: Vector) -> tuple[list[Choice], bool]:
    """Choices at the lowest price level that meets the limits, and whether any does."""
    layers = [entry.layer for entry in sorted_layers]
    low, high = -60.0, 60.0  # log2 of the price level
    found = [entry.at(2.0**high) for entry in sorted_layers]
    met = bool((cost_of(layers, found) <= limit).all())
    for _ in range(_BISECTIONS if met else 0):
        middle = (low + high) / 2
        decided = [entry.at(2.0**middle) for entry in sorted_layers]
        if (cost_of(layers, decided) <= limit).all():
            high, found = middle, decided
        else:
            low = middle
    return found, met


def _layer_cost(layer: LayerOptions, choice: Choice) -> Vector:
    if choice.candidate < 0:
        return layer.dense
    return _cost(layer.candidates[choice.candidate], choice.steps)


def _cost(candidate: Candidate, steps: Sequence[int]) -> Vector:
    ranks = np.asarray([c.ranks[:n].sum() for c, n in zip(candidate.clusters, steps, strict=True)], dtype=np.float64)
    cost: Vector = candidate.fixed + ranks @ np.stack([c.cost for c in candidate.clusters])
    return cost


def _smallest(layer: LayerOptions) -> Vector:
    least = [
        candidate.fixed + np.min([c.cost * c.ranks[0] for c in candidate.clusters if len(c.ranks)], axis=0)
        for candidate in layer.candidates
    ]
    smallest: Vector = np.min([layer.dense, *least], axis=0)
    return smallest


def _spend_rest(layers: Sequence[LayerOptions], choices: list[Choice], limit: Vector, prices: Vector) -> list[Choice]:
    used = cost_of(layers, choices)
    choices = list(choices)
    steps = [list(choice.steps) for choice in choices]
    spent = [_layer_cost(layer, choice) for layer, choice in zip(layers, choices, strict=True)]
    queue: list[tuple[float, int, int]] = []

    def enqueue(layer: int, cluster: int) -> None:
        entry, done = layers[layer].candidates[choices[layer].candidate].clusters[cluster], steps[layer][cluster]
        if done < len(entry.saved):
            price = float(entry.cost @ prices) * int(entry.ranks[done])
            per_price = float(entry.saved[done]) / price if price > 0 else np.inf
            heapq.heappush(queue, (-per_price, layer, cluster))

    for layer, choice in enumerate(choices):
        for cluster in range(len(choice.steps)):
            enqueue(layer, cluster)
    while queue:
        _, layer, cluster = heapq.heappop(queue)
        entry = layers[layer].candidates[choices[layer].candidate].clusters[cluster]
        cost = entry.cost * int(entry.ranks[steps[layer][cluster]])
        # A factored layer as costly as the dense one is useless; a step that does not fit is never tried again.
        # Sums are compared, so that a step whose cost vanishes in rounding fits a budget that is used up.
        if (used + cost <= limit).all() and (spent[layer] + cost < layers[layer].dense).any():
            used, spent[layer] = used + cost, spent[layer] + cost
            steps[layer][cluster] += 1
            enqueue(layer, cluster)
    filled = [Choice(choice.candidate, tuple(row)) for choice, row in zip(choices, steps, strict=True)]
    return _restore_dense(layers, filled, limit)


def _restore_dense(layers: Sequence[LayerOptions], choices: list[Choice], limit: Vector) -> list[Choice]:
    """Leave layers dense, the most harmed first, where the rest of the budget allows it."""
    choices = list(choices)
    left = limit - cost_of(layers, choices)
    for index in sorted(range(len(layers)), key=lambda i: -loss_of([layers[i]], [choices[i]])):
        more = layers[index].dense - _layer_cost(layers[index], choices[index])
        if choices[index].candidate >= 0 and (more <= left).all():
            left, choices[index] = left - more, DENSE
    return choices
