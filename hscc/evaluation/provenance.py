"""Where figures come from: the machine that timed them and the versions that computed them."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("torch", "onnxruntime", "onnx", "numpy", "scikit-learn", "scipy", "pandas")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that made the figures, by name."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def machine() -> dict[str, str]:
    """Describe the processor and system that latencies were measured on; no host or user name."""
    return {
        "processor": processor_name(Path("/proc/cpuinfo")) or platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor_name(cpuinfo: Path) -> str:
    """Read the model name from Linux's table of processors; empty where there is none."""
    if not cpuinfo.is_file():
        return ""
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""
