"""Keep a measurement on the same processors: a thread that wanders loses its caches, and two on one core its speed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")


@contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Keep this thread, and the threads it starts, on as many processors as it uses threads.

    Parameters
    ----------
    threads : int
        Threads that will work at once.

    Yields
    ------
    list of int
        Numbers of the processors, each on a core of its own where there are enough; empty where the system cannot pin
        (macOS, Windows). Thread pools that were started before stay where they are.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield []
        return
    allowed = os.sched_getaffinity(0)
    chosen = choose_processors({number: core_of(number) for number in allowed}, threads)
    os.sched_setaffinity(0, chosen)
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)


def choose_processors(cores: Mapping[int, str], threads: int) -> list[int]:
    """Choose processors so that no two share a core before every core has one.

    Parameters
    ----------
    cores : mapping of int to str
        Core of each processor that may be used.
    threads : int
        How many to choose; all where there are fewer.

    Returns
    -------
    list of int
        Ascending.
    """
    seen: dict[str, int] = {}
    turns: list[tuple[int, int]] = []  # of its core, each processor's turn
    for number in sorted(cores):
        turns.append((seen.get(cores[number], 0), number))
        seen[cores[number]] = seen.get(cores[number], 0) + 1
    return sorted(number for _, number in sorted(turns)[:threads])


def core_of(processor: int, topology: Path = _TOPOLOGY) -> str:
    """Name the core of a processor by the list of its siblings; by its own number where Linux tells none."""
    siblings = topology / f"cpu{processor}" / "topology" / "thread_siblings_list"
    return siblings.read_text(encoding="ascii").strip() if siblings.is_file() else str(processor)
