"""The images whose answer compression changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from hscc.pipeline.insight.schema import FlipCount

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

LOST, GAINED, OTHER = "lost", "gained", "other"
KINDS = (LOST, GAINED, OTHER)


@dataclass(frozen=True)
class Flip:
    """One image whose most probable class differs.

    Attributes
    ----------
    image : int
        Its position among the images.
    kind : str
        ``lost``: the dense network was right; ``gained``: the compressed one is; ``other``: neither.
    dense, small : ndarray of float64, shape (C,)
        Probabilities by the dense and by the compressed network.
    """

    image: int
    kind: str
    dense: npt.NDArray[np.float64]
    small: npt.NDArray[np.float64]


def find_flips(labels: Ints, dense: Floats, small: Floats) -> list[Flip]:
    """List the images whose most probable class differs, the largest changes of each kind first.

    Parameters
    ----------
    labels : ndarray of int64, shape (N,)
        True class indices.
    dense, small : ndarray of float, shape (N, C)
        Logits of the two networks.

    Returns
    -------
    list of Flip
        Kinds in the order of `KINDS`; within one by the total variation distance of the probabilities, falling.
    """
    before, after = softmax(dense.astype(np.float64), axis=1), softmax(small.astype(np.float64), axis=1)
    first, second = before.argmax(1), after.argmax(1)
    flips = [
        Flip(int(i), _kind(labels[i], first[i], second[i]), before[i], after[i])
        for i in np.flatnonzero(first != second)
    ]
    return sorted(flips, key=lambda flip: (KINDS.index(flip.kind), -float(np.abs(flip.dense - flip.small).sum())))


def count_flips(network: str, images: int, flips: Sequence[Flip]) -> FlipCount:
    """Count the flips of a network among so many images, all and by kind."""
    lost, gained, other = (sum(flip.kind == kind for flip in flips) for kind in KINDS)
    return FlipCount(network=network, images=images, flips=len(flips), lost=lost, gained=gained, other=other)


def _kind(label: int, dense: int, small: int) -> str:
    if dense == label:
        return LOST
    return GAINED if small == label else OTHER
