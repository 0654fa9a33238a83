"""Work on the layers of a network side by side, with results that do not depend on how many threads there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from hscc.terminal import track

_T = TypeVar("_T")
_R = TypeVar("_R")


def each_layer(
    work: Callable[[_T], _R], items: Sequence[_T], title: str, size: Callable[[_T], int] | None = None
) -> list[_R]:  # fmt: skip
    """Apply to every layer, one thread per layer: eigenproblems of a few hundred rows gain nothing from more.

    The results do not depend on how many threads there are. Those with the largest ``size`` are begun first, so that
    none is left alone at the end.
    """
    import scipy.linalg  # noqa: F401  before the limit below: it does not hold for libraries loaded later

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        with threadpool_limits(1), pool:
            order = (
                list(range(len(items))) if size is None else sorted(range(len(items)), key=lambda i: -size(items[i]))
            )
            done = dict(zip(order, track(pool.map(work, [items[i] for i in order]), title, len(items)), strict=True))
            return [done[index] for index in range(len(items))]
    finally:
        torch.set_num_threads(threads)
