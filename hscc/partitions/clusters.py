"""Partitions of input channels into clusters: by co-activation, at random, by their order.

To add a grouping, write a frozen dataclass with ``groups``; equal ones must make equal groups.
"""

from __future__ import annotations

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


def _centres(points: Correlation, clusters: int, seed: int) -> npt.NDArray[np.float64]:
    """Centres of the best of a few runs of k-means, which go side by side until none of them moves any more."""
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
        means = members.astype(points.dtype) @ points / np.maximum(sizes, 1)
        centres = np.where(sizes > 0, means, centres)  # one that no point is nearest to stays where it is
    labels = _nearest(points, centres)
    spread = [np.square(points - centre[label]).sum() for centre, label in zip(centres, labels, strict=True)]
    best: Correlation = centres[int(np.argmin(spread))]
    return best


def _start(
    points: Correlation, squares: npt.NDArray[np.float64], clusters: int, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Centres by k-means++: each further one by its distance from those so far (Arthur and Vassilvitskii, 2007)."""
    chosen = [int(generator.integers(len(points)))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < clusters:
        distance = squares - 2 * points @ points[chosen[-1]] + squares[chosen[-1]]
        nearest = np.minimum(nearest, np.maximum(distance, 0.0))
        shares = np.cumsum(nearest)
        drawn = generator.uniform() * shares[-1]
        chosen.append(min(int(np.searchsorted(shares, drawn)), len(points) - 1))
    return points[chosen]


def _nearest(points: Correlation, centres: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Centre nearest to each point, for each run: (runs, points)."""
    runs, clusters, _ = centres.shape
    products = (points @ centres.reshape(runs * clusters, -1).T).reshape(-1, runs, clusters)
    labels: npt.NDArray[np.int64] = (np.square(centres).sum(2) - 2 * products).argmin(2).T
    return labels


def _balance(points: Correlation, centres: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    slots = np.arange(len(points)) % len(centres)  # each centre offers its share of the channels
    distance = cdist(points, centres, "sqeuclidean")
    channels, chosen = linear_sum_assignment(distance[:, slots])
    labels = np.empty(len(points), dtype=np.int64)
    labels[channels] = slots[chosen]
    return labels


def _by_label(labels: npt.NDArray[np.int64]) -> Groups:
    return sorted(tuple(int(c) for c in np.flatnonzero(labels == label)) for label in np.unique(labels))
