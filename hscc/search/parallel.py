"""Work on the layers of a network side by side, with results that do not depend on how many threads there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from threadpoolctl import threadpool_limits

_T = TypeVar("_T")
_R = TypeVar("_R")


def each_layer(work: Callable[[_T], _R], items: Sequence[_T], title: str) -> list[_R]:
    """Apply to every layer, a layer a thread: eigenproblems of a few hundred rows gain nothing from more.

    The results do not depend on how many threads there are.
    """
    import sklearn.cluster  # noqa: F401  before the limit below: it does not hold for libraries loaded later

    console, threads = Console(stderr=True), torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        with threadpool_limits(1), pool:
            done = pool.map(work, items)
            quiet = not console.is_terminal
            return list(track(done, title, len(items), console=console, transient=True, disable=quiet))
    finally:
        torch.set_num_threads(threads)
