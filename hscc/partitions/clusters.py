"""Partitions of input channels into clusters: by co-activation, at random, by their order.

To add a grouping, write a frozen dataclass with ``groups``; equal ones must make equal groups.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

_RUNS = 4  # of k-means, from different starts
_STEPS = 30  # of each

Groups = list[tuple[int, ...]]
Correlation = npt.NDArray[np.float64]
_Points = npt.NDArray[np.float32]
_Move = tuple[float, int]  # what it costs, and the point


class Grouping(Protocol):
    """How channels are grouped."""

    def groups(self, here: Correlation, everywhere: Callable[[], Correlation]) -> Groups:
        """Partition the channels.

        Parameters
        ----------
        here : ndarray, shape (C, C)
            Correlation of the channels inside the region; see `channel_correlation`.
        everywhere : callable
            Gives that of the whole layer.
        """
        ...


@dataclass(frozen=True)
class CoActivation:
    """Equal clusters of channels that are active together in the region: the method's own."""

    clusters: int
    seed: int

    def groups(self, here: Correlation, everywhere: Callable[[], Correlation]) -> Groups:
        """See `Grouping`."""
        return cluster_channels(here, self.clusters, self.seed)


@dataclass(frozen=True)
class SimilarChannels:
    """As many clusters as a similarity threshold gives, of any size: the paper's rule.

    Attributes
    ----------
    similarity : float
        Clusters are merged while their mean absolute correlation is at least this.
    """

    similarity: float

    def groups(self, here: Correlation, everywhere: Callable[[], Correlation]) -> Groups:
        """See `Grouping`."""
        from scipy.cluster.hierarchy import fcluster, linkage  # here: it takes a moment to import

        if len(here) == 1:
            return [(0,)]
        distances = (1 - np.abs(here))[np.triu_indices(len(here), 1)]
        return _by_label(fcluster(linkage(distances, "average"), 1 - self.similarity, "distance"))


@dataclass(frozen=True)
class GlobalCoActivation:
    """The layer's own clusters in every region: the control that grouping region by region must beat."""

    clusters: int
    seed: int

    def groups(self, here: Correlation, everywhere: Callable[[], Correlation]) -> Groups:
        """See `Grouping`."""
        return cluster_channels(everywhere(), self.clusters, self.seed)


@dataclass(frozen=True)
class RandomGroups:
    """Equal groups drawn at random: the control that co-activation must beat."""

    clusters: int
    seed: int

    def groups(self, here: Correlation, everywhere: Callable[[], Correlation]) -> Groups:
        """See `Grouping`."""
        order = np.random.default_rng(self.seed).permutation(len(here))
        parts = np.array_split(order, min(self.clusters, len(here)))
        return sorted(tuple(sorted(int(c) for c in part)) for part in parts)


@dataclass(frozen=True)
class ContiguousGroups:
    """Equal groups of neighbouring channels, as ALDS cuts them (Liebenwein et al., 2021)."""

    clusters: int

    def groups(self, here: Correlation, everywhere: Callable[[], Correlation]) -> Groups:
        """See `Grouping`."""
        parts = np.array_split(np.arange(len(here)), min(self.clusters, len(here)))
        return [tuple(int(c) for c in part) for part in parts]


def channel_correlation(covariance: torch.Tensor, channels: int) -> Correlation:
    """Correlation of input channels, kernel taps summed: how two channels are active together in a region.

    Parameters
    ----------
    covariance : Tensor, shape (d, d)
        Covariance of the im2col patches, features ordered channel by tap.
    channels : int
        C, a divisor of d.

    Returns
    -------
    ndarray of float64, shape (C, C)
        Between -1 and 1; channels that never vary have 0 with all others and 1 with themselves.
    """
    taps = len(covariance) // channels
    by_tap = covariance.reshape(channels, taps, channels, taps)
    together = by_tap.diagonal(dim1=1, dim2=3).sum(-1).double().numpy()
    scale = np.sqrt(np.clip(np.diag(together), 0, None))
    active = scale > 1e-6 * max(float(scale.max()), 1e-30)
    inverse = np.where(active, 1 / np.where(active, scale, 1), 0)
    correlation: Correlation = np.clip(together * inverse[:, None] * inverse[None, :], -1, 1)
    np.fill_diagonal(correlation, 1)
    return correlation


def cluster_channels(correlation: Correlation, clusters: int, seed: int) -> Groups:
    """Group channels by co-activation: k-means++ on the rows of their correlation matrix, then balanced.

    Sizes are equal, as nearly as C allows, so that a region can run as one grouped convolution: the centroids of
    k-means take their channels by an optimal assignment.

    Parameters
    ----------
    correlation : ndarray, shape (C, C)
        From `channel_correlation`.
    clusters : int
        Number of groups; at most C are made.
    seed : int
        Of k-means.

    Returns
    -------
    list of tuple of int
        A partition of the channels; each ascending, the list ordered by first channel.
    """
    channels = len(correlation)
    clusters = min(clusters, channels)
    if clusters == 1:
        return [tuple(range(channels))]
    return _by_label(_balance(correlation, _centres(correlation, clusters, seed)))


def _centres(correlation: Correlation, clusters: int, seed: int) -> _Points:
    """Centres of the best of a few runs of k-means, which go side by side until none of them moves any more."""
    points = correlation.astype(np.float32)  # the time is that of reading them
    generators = [np.random.default_rng([seed, number]) for number in range(_RUNS)]
    squares = np.square(points).sum(1)
    centres = np.stack([_start(points, squares, clusters, generator) for generator in generators])
    labels = np.full((_RUNS, len(points)), -1)
    for _ in range(_STEPS):
        found = _nearest(points, centres)
        members = found[:, None, :] == np.arange(clusters)[:, None]  # (runs, clusters, points)
        if (found == labels).all():
            break
        labels, sizes = found, members.sum(2, keepdims=True)
        means = members.astype(points.dtype) @ points / np.maximum(sizes, 1).astype(points.dtype)
        centres = np.where(sizes > 0, means, centres)  # one that no point is nearest to stays where it is
    labels = _nearest(points, centres)
    spread = [np.square(points - centre[label]).sum() for centre, label in zip(centres, labels, strict=True)]
    best: _Points = centres[int(np.argmin(spread))]
    return best


def _start(points: _Points, squares: _Points, clusters: int, generator: np.random.Generator) -> _Points:
    """Centres by k-means++: each further one by its distance from those so far (Arthur and Vassilvitskii, 2007)."""
    chosen = [int(generator.integers(len(points)))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < clusters:
        distance = squares - 2 * points @ points[chosen[-1]] + squares[chosen[-1]]
        nearest = np.minimum(nearest, np.maximum(distance, 0.0))
        shares = np.cumsum(nearest)
        drawn = generator.uniform() * shares[-1]
        chosen.append(min(int(np.searchsorted(shares, drawn)), len(points) - 1))
    found: _Points = points[chosen]
    return found


def _nearest(points: _Points, centres: _Points) -> npt.NDArray[np.int64]:
    """Centre nearest to each point, for each run: (runs, points)."""
    runs, clusters, _ = centres.shape
    products = (points @ centres.reshape(runs * clusters, -1).T).reshape(-1, runs, clusters)
    labels: npt.NDArray[np.int64] = (np.square(centres).sum(2) - 2 * products).argmin(2).T
    return labels


def _balance(points: Correlation, centres: _Points) -> npt.NDArray[np.int64]:
    from scipy.spatial.distance import cdist

    sizes = np.bincount(np.arange(len(points)) % len(centres), minlength=len(centres))
    return assign_by_size(cdist(points, centres, "sqeuclidean"), sizes)


def assign_by_size(cost: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Assign points to centres of given sizes at the least total cost.

    All begin at their nearest centre; one point too many after the other then moves along the cheapest chain of centres
    to one that has room: successive shortest paths on a graph of k nodes, whose edge from a to b is the point of a that
    is cheapest to move to b. For few centres it is much faster than a general assignment with a column per point.

    Parameters
    ----------
    cost : ndarray, shape (n, k)
        Of each point at each centre.
    sizes : ndarray of int, shape (k,)
        Points of each centre; their sum is n.

    Returns
    -------
    ndarray of int64, shape (n,)
        Centre of each point.
    """
    labels: npt.NDArray[np.int64] = cost.argmin(1)
    room = sizes - np.bincount(labels, minlength=len(sizes))
    edges, rounding = _edges(cost, labels), 1e-12 * float(np.abs(cost).max(initial=0.0))
    while (room < 0).any():
        chain = _cheapest_chain(edges, labels, room, rounding)
        room[chain[0]] += 1
        room[chain[-1]] -= 1
        moves = [(edges[start][end][0][1], end) for start, end in itertools.pairwise(chain)]
        for point, end in moves:
            labels[point] = end
        for point, end in moves:
            for other in range(len(sizes)):
                heapq.heappush(edges[end][other], (float(cost[point, other] - cost[point, end]), point))
    return labels


def _edges(cost: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]) -> list[list[list[_Move]]]:
    """Heaps of what it costs to move the points of one centre to another, by both centres."""
    centres = range(cost.shape[1])
    rises = (cost - cost[np.arange(len(cost)), labels][:, None]).tolist()
    members = [np.flatnonzero(labels == start).tolist() for start in centres]
    edges = [[[(rises[point][end], point) for point in own] for end in centres] for own in members]
    for heap in itertools.chain.from_iterable(edges):
        heapq.heapify(heap)
    return edges


def _cheapest_chain(
    edges: list[list[list[_Move]]], labels: npt.NDArray[np.int64], room: npt.NDArray[np.int64], rounding: float
) -> list[int]:
    """Centres from one with too many points to one with room, by Bellman and Ford.

    What is better by less than ``rounding`` is not: a chain could then run in a circle.
    """
    prices = np.full((len(room), len(room)), np.inf)
    for start, row in enumerate(edges):
        for end, heap in enumerate(row):
            while heap and labels[heap[0][1]] != start:  # it has moved on
                heapq.heappop(heap)
            if heap and start != end:
                prices[start, end] = heap[0][0]
    distance, before = np.where(room < 0, 0.0, np.inf), np.full(len(room), -1)
    for _ in range(len(room) - 1):
        through = distance[:, None] + prices
        nearest = through.argmin(0)
        found = through[nearest, np.arange(len(room))]
        better = found < distance - rounding
        if not better.any():
            break
        before[better], distance[better] = nearest[better], found[better]
    chain = [int(np.where(room > 0, distance, np.inf).argmin())]
    while before[chain[0]] >= 0:
        chain.insert(0, int(before[chain[0]]))
    return chain


def _by_label(labels: npt.NDArray[np.int64]) -> Groups:
    return sorted(tuple(int(c) for c in np.flatnonzero(labels == label)) for label in np.unique(labels))
