"""Partitions of a layer: output positions into regions, input channels into clusters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from hscc.calibration.cells import cell_edges
from hscc.calibration.layers import Layer, Rectangle


def region_tiles(rows: int, columns: int, cells: int) -> list[Rectangle]:
    """Tiles, in cells, of a grid of regions, row by row.

    Where `rows` or `columns` does not divide `cells`, tiles differ by a cell: three regions of four cells are the two
    borders and the middle.
    """
    down, across = cell_edges(cells, rows), cell_edges(cells, columns)
    return [(down[i], down[i + 1], across[j], across[j + 1]) for i in range(rows) for j in range(columns)]


def tile_cells(tile: Rectangle, cells: int) -> list[int]:
    """Indices of the fine cells of a tile."""
    return [row * cells + column for row in range(tile[0], tile[1]) for column in range(tile[2], tile[3])]


def channel_correlation(layer: Layer, covariance: torch.Tensor) -> npt.NDArray[np.float64]:
    """Correlation of input channels, kernel taps summed: how two channels fire together in a region.

    Parameters
    ----------
    covariance : Tensor, shape (d, d)
        Covariance of the im2col patches, features ordered channel by tap.

    Returns
    -------
    ndarray of float64, shape (C_in, C_in)
        Between -1 and 1; channels that never vary have 0 with all others and 1 with themselves.
    """
    by_tap = covariance.reshape(layer.inputs, layer.taps, layer.inputs, layer.taps)
    together = by_tap.diagonal(dim1=1, dim2=3).sum(-1).double().numpy()
    scale = np.sqrt(np.clip(np.diag(together), 0, None))
    active = scale > 1e-6 * max(float(scale.max()), 1e-30)
    inverse = np.where(active, 1 / np.where(active, scale, 1), 0)
    correlation: npt.NDArray[np.float64] = np.clip(together * inverse[:, None] * inverse[None, :], -1, 1)
    np.fill_diagonal(correlation, 1)
    return correlation


def cluster_channels(
    correlation: npt.NDArray[np.float64], clusters: int, seed: int, balanced: bool = True
) -> list[tuple[int, ...]]:
    """Group channels by co-activation: k-means++ on the rows of their correlation matrix.

    Parameters
    ----------
    correlation : ndarray, shape (C, C)
        From `channel_correlation`.
    clusters : int
        Number of groups; at most C are made.
    seed : int
        Of k-means.
    balanced : bool
        Equal sizes, as nearly as C allows, so that a region can run as one grouped convolution. The centroids of
        k-means then take their channels by an optimal assignment.

    Returns
    -------
    list of tuple of int
        A partition of the channels; each ascending, the list ordered by first channel.
    """
    channels = len(correlation)
    clusters = min(clusters, channels)
    if clusters == 1:
        return [tuple(range(channels))]
    means = KMeans(clusters, n_init=4, random_state=seed).fit(correlation)
    labels = _balance(correlation, means.cluster_centers_) if balanced else means.labels_
    groups = [tuple(int(c) for c in np.flatnonzero(labels == label)) for label in range(clusters)]
    return sorted(group for group in groups if group)


def random_groups(channels: int, clusters: int, seed: int) -> list[tuple[int, ...]]:
    """Equal groups drawn at random: the control that co-activation must beat."""
    order = np.random.default_rng(seed).permutation(channels)
    return sorted(tuple(sorted(int(c) for c in part)) for part in np.array_split(order, min(clusters, channels)))


def _balance(points: npt.NDArray[np.float64], centres: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    slots = np.arange(len(points)) % len(centres)  # each centre offers its share of the channels
    distance = cdist(points, centres, "sqeuclidean")
    channels, chosen = linear_sum_assignment(distance[:, slots])
    labels = np.empty(len(points), dtype=np.int64)
    labels[channels] = slots[chosen]
    return labels
