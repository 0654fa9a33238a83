"""How many stages this machine can run side by side."""

from __future__ import annotations

from pathlib import Path

import joblib
import psutil

GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")  # limits of a container, version 2 of the interface


def default_workers(need: float, cores: int, available: float) -> int:
    """Choose how many stages run side by side: a core each, and memory for all.

    Parameters
    ----------
    need : float
        GiB that the hungriest stage takes.
    cores : int
        Of this machine.
    available : float
        GiB not in use.

    Returns
    -------
    int
        At least 1.
    """
    return max(1, min(cores, int(available // need)))


def cores() -> int:
    """Return the cores that this process may use, quotas of a container included."""
    return int(joblib.cpu_count())


def available_memory(cgroup: Path = _CGROUP) -> float:
    """Return the GiB that this process and its children may still take.

    Parameters
    ----------
    cgroup : Path
        Where the system tells a container's limits; need not exist.

    Returns
    -------
    float
        The machine's free memory, or what a container's limit leaves of it.
    """
    free = float(psutil.virtual_memory().available)
    try:
        limit, used = ((cgroup / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free / GIB
    return free / GIB if limit == "max" else min(free, int(limit) - int(used)) / GIB
