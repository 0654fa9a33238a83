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
Counts = npt.NDArray[np.int64]

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
    search = _Search(layers)
    for _ in range(_PROPORTIONS if len(limit) > 1 else 1):
        prices = proportions / proportions.sum() * scale
        decision, met = _at_proportions(search, prices, limit)
        choices = search.choices(decision)
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


class _Search:
    """All layers' rank steps in flat arrays, so that a price level is decided for every cluster at once.

    Inside a cluster the loss saved per rank never increases, so what a price keeps is found by bisection. As a level
    lies between two others, so do the steps that it keeps: `_Bracket` narrows where they are looked for.
    """

    def __init__(self, layers: Sequence[LayerOptions]) -> None:
        self.layers = layers
        candidates = [candidate for layer in layers for candidate in layer.candidates]
        clusters = [cluster for candidate in candidates for cluster in candidate.clusters]
        self.sizes = np.asarray([len(cluster.saved) for cluster in clusters], dtype=np.int64)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.per_rank = np.concatenate([*(cluster.saved / np.maximum(cluster.ranks, 1) for cluster in clusters), [0.0]])
        saved = [np.concatenate([[0.0], np.cumsum(cluster.saved)]) for cluster in clusters]
        self.left = np.concatenate([found[-1] - found for found in saved])  # loss not saved, by the steps kept
        self.ranks = np.concatenate([np.concatenate([[0], np.cumsum(cluster.ranks)]) for cluster in clusters])
        self.sums = self.starts + np.arange(len(clusters))  # where a cluster's sums begin, which are one more
        self.costs = np.stack([cluster.cost for cluster in clusters])
        numbers = np.asarray([len(candidate.clusters) for candidate in candidates])
        self.first = np.cumsum(numbers) - numbers  # cluster of each candidate
        self.owner = np.repeat(np.arange(len(candidates)), numbers)
        self.fixed = np.stack([candidate.fixed for candidate in candidates])
        self.lost = np.asarray([candidate.lost for candidate in candidates])
        offered = [len(layer.candidates) for layer in layers]
        self.offset = np.cumsum(offered) - offered  # candidate of each layer
        self.slots = np.concatenate([np.arange(number) for number in offered])
        self.rows = np.repeat(np.arange(len(layers)), offered)
        self.dense = np.stack([layer.dense for layer in layers])
        self.width = max(offered)

    def everything(self) -> _Bracket:
        """Return the bracket of all price levels."""
        return _Bracket(np.zeros_like(self.sizes), self.sizes)

    def at(self, level: float, prices: Vector, bracket: _Bracket) -> _Decision:
        """Decide every layer at one price level, inside a bracket of the steps that it keeps."""
        price = self.costs @ prices
        kept = self._kept(level * price, price > 0, bracket)
        sums = self.sums + kept
        losses = self.lost + np.add.reduceat(self.left[sums], self.first)
        priced = self.fixed @ prices + np.add.reduceat(self.ranks[sums] * price, self.first)
        values = losses + level * priced
        # A layer must have some rank: the step that saves most net of its price.
        extra = np.full(len(values), -1)
        for index in np.flatnonzero(np.add.reduceat(kept, self.first) == 0):
            step, net = self._first_step(int(index), level, price)
            extra[index] = step
            values[index] -= net
        table = np.full((len(self.layers), self.width + 1), np.inf)
        table[:, 0] = level * (self.dense @ prices)
        table[self.rows, self.slots + 1] = values
        return _Decision(table.argmin(axis=1) - 1, kept, extra)

    def cost(self, decision: _Decision) -> Vector:
        """Cost of all layers together, shape (resources,)."""
        factored = decision.chosen >= 0
        candidates = self.offset[factored] + decision.chosen[factored]
        chosen = np.zeros(len(self.fixed), dtype=bool)
        chosen[candidates] = True
        clusters = np.flatnonzero(chosen[self.owner])
        ranks = self.ranks[self.sums[clusters] + decision.kept[clusters]]
        steps = decision.extra[candidates]
        steps = steps[steps >= 0]
        total: Vector = self.dense[~factored].sum(0) + self.fixed[candidates].sum(0) + ranks @ self.costs[clusters]
        more: Vector = self.ranks[self.sums[steps] + 1] @ self.costs[steps]
        return total + more

    def choices(self, decision: _Decision) -> list[Choice]:
        """Write out a decision."""
        found = []
        for layer, chosen in zip(self.offset, decision.chosen, strict=True):
            if chosen < 0:
                found.append(DENSE)
                continue
            candidate = layer + chosen
            first, extra = int(self.first[candidate]), int(decision.extra[candidate])
            steps = decision.kept[first : first + int((self.owner == candidate).sum())].tolist()
            if extra >= 0:
                steps[extra - first] = 1
            found.append(Choice(int(chosen), tuple(steps)))
        return found

    def _kept(self, threshold: Vector, priced: npt.NDArray[np.bool_], bracket: _Bracket) -> Counts:
        """Steps of each cluster that save more than their price; one without a price is always taken."""
        low, high = bracket.fewest.copy(), bracket.most.copy()
        while (open_ := low < high).any():
            middle = (low + high) // 2
            taken = self.per_rank[self.starts + np.minimum(middle, self.sizes - 1)] > threshold
            taken |= ~priced
            low = np.where(open_ & taken, middle + 1, low)
            high = np.where(open_ & ~taken, middle, high)
        return low

    def _first_step(self, candidate: int, level: float, price: Vector) -> tuple[int, float]:
        """Cluster of a candidate whose first step saves most net of its price, and how much."""
        end = self.first[candidate + 1] if candidate + 1 < len(self.first) else len(self.sizes)
        clusters = np.arange(self.first[candidate], end)
        clusters = clusters[self.sizes[clusters] > 0]
        at = self.sums[clusters]
        net = self.left[at] - self.left[at + 1] - level * self.ranks[at + 1] * price[clusters]
        best = int(net.argmax())
        return int(clusters[best]), float(net[best])


@dataclass(frozen=True)
class _Bracket:
    """Fewest and most steps of each cluster that any price level of a range keeps, shape (clusters,)."""

    fewest: Counts
    most: Counts


@dataclass(frozen=True)
class _Decision:
    """What a price level makes of all layers.

    Attributes
    ----------
    chosen : ndarray of int64, shape (layers,)
        Candidate of each layer, -1 for dense.
    kept : ndarray of int64, shape (clusters,)
        Steps of each cluster of all candidates.
    extra : ndarray of int64, shape (candidates,)
        Cluster that gets a first step where no step is worth its price; -1 elsewhere.
    """

    chosen: Counts
    kept: Counts
    extra: Counts


def _at_proportions(search: _Search, prices: Vector, limit: Vector) -> tuple[_Decision, bool]:
    """Decide at the lowest price level that meets the limits; and say whether any does."""
    low, high = -60.0, 60.0  # log2 of the price level
    everything = search.everything()
    found = search.at(2.0**high, prices, everything)
    if not bool((search.cost(found) <= limit).all()):
        return found, False
    bracket = _Bracket(found.kept, everything.most)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        decided = search.at(2.0**middle, prices, bracket)
        if (search.cost(decided) <= limit).all():
            high, found, bracket = middle, decided, _Bracket(decided.kept, bracket.most)
        else:
            low, bracket = middle, _Bracket(bracket.fewest, decided.kept)
    return found, True


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
