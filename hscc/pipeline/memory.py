"""Keep freed memory in the process: glibc returns large buffers to the system after every training step."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed() -> bool:
    """Ask glibc to keep what is freed for the next allocation of the same size.

    A step of AlexNet frees and takes 600 MB of gradients and activations; fetched again, each page costs a fault, and
    the step a quarter more time (``python -m benchmarks.training_step``).

    Returns
    -------
    bool
        Whether the C library accepts the request; without glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
