"""Near-copies: images that show the same picture, whatever their size or compression.

Every image is shrunk to a 16x16 grey thumbnail, a volume to three: its means along each axis. Two images are
near-copies when their thumbnails correlate above a threshold or when their bytes are equal; near-copies of near-copies
belong together, so the groups are the connected components of that relation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

THUMBNAIL_SIDE = 16
_BLOCK = 1024  # rows of the correlation matrix held at once: 1024 x N float64


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Shrink an image of any mode and size to its grey 16x16 thumbnail (bilinear), as (256,) uint8 row by row."""
    small = image.convert("L").resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small, dtype=np.uint8).reshape(-1)


def projections(levels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Mean of a volume, (D, H, W), along each of its axes: (H, W), (D, W) and (D, H)."""
    return [levels.mean(axis=axis).round().astype(np.uint8) for axis in range(3)]


def thumbnail_length(dimensions: int) -> int:
    """Numbers of an image's thumbnail: of a volume those of its three `projections`."""
    return THUMBNAIL_SIDE**2 * (3 if dimensions == 3 else 1)


def standardise(thumbnails: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Standardise thumbnails, (N, P) uint8, to zero mean and unit norm, so that a dot product is a correlation.

    A constant thumbnail has no direction and becomes zeros: it correlates with nothing, itself included.
    """
    # float64, so that rounding (which differs between BLAS builds) cannot decide at the threshold
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True, dtype=np.float64)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    return unit


def correlated_pairs(thumbnails: NDArray[np.uint8], threshold: float) -> NDArray[np.int64]:
    """Find every pair of thumbnails, (N, P) uint8, that correlate above a threshold in (0, 1).

    Returns
    -------
    numpy.ndarray
        (P, 2) int64, row indices i < j of each pair, sorted. Memory beyond it is 1024 x N float64.
    """
    unit = standardise(thumbnails)
    found = [np.empty((0, 2), dtype=np.int64)]
    for start in range(0, len(unit), _BLOCK):
        correlation = unit[start : start + _BLOCK] @ unit[start:].T
        rows, columns = np.nonzero(correlation > threshold)
        later = columns > rows
        found.append(np.column_stack([rows[later], columns[later]]) + start)
    return np.concatenate(found)


def near_duplicate_groups(thumbnails: NDArray[np.uint8], digests: Sequence[str], threshold: float) -> NDArray[np.int64]:
    """Put near-copies into numbered groups.

    Parameters
    ----------
    thumbnails : numpy.ndarray
        (N, P) uint8; zeros for an image that could not be decoded.
    digests : sequence of str
        N content hashes; equal ones are copies even where a thumbnail is constant.
    threshold : float
        Correlation in (0, 1) above which two images are near-copies.

    Returns
    -------
    numpy.ndarray
        (N,) int64 group numbers 0, 1, ... in the order of each group's first image. An image
        without near-copies has a group of its own.
    """
    count = len(digests)
    if count == 0:
        return np.empty(0, dtype=np.int64)
    _, first, same = np.unique(np.asarray(digests, dtype=str), return_index=True, return_inverse=True)
    copies = np.column_stack([np.arange(count), first[same]])
    edges = np.concatenate([correlated_pairs(thumbnails, threshold), copies])
    return _components(edges, count)


def joined_groups(groups: NDArray[np.int64], subjects: Sequence[str]) -> NDArray[np.int64]:
    """Join groups that share a subject (patient, lesion).

    Parameters
    ----------
    groups : numpy.ndarray
        (N,) int64, of near-copies.
    subjects : sequence of str
        N names; "" where the subject is not known, which joins nothing.

    Returns
    -------
    numpy.ndarray
        (N,) int64 group numbers 0, 1, ... in the order of each group's first image.
    """
    rows, names = np.arange(len(groups)), np.asarray(subjects, dtype=str)
    edges = []
    for keys, among in ((groups, rows), (names[names != ""], rows[names != ""])):
        _, first, same = np.unique(keys, return_index=True, return_inverse=True)
        edges.append(np.column_stack([among, among[first[same]]]))
    return _components(np.concatenate(edges), len(groups))


def _components(edges: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Number the connected components of a graph in the order of their first node."""
    graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first, order = np.unique(component, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[order]


def conflicting(groups: NDArray[np.int64], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Mark the images whose group holds contradicting labels.

    Takes N group numbers and N class names; returns (N,) bool.
    """
    labels_of: dict[int, set[str]] = {}
    for group, label in zip(groups.tolist(), labels, strict=True):
        labels_of.setdefault(group, set()).add(label)
    return np.array([len(labels_of[group]) > 1 for group in groups.tolist()], dtype=bool)
