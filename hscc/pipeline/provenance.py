"""Where a figure comes from: hash of the data, commit of the code, versions of packages, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from hscc.pipeline.data.sources.pin import PIN, read_pin

UNKNOWN = "unknown"
_PACKAGES = ("torch", "onnxruntime", "onnx", "numpy", "scikit-learn", "scipy", "pandas")
_WRITTEN_BY_THE_GRAPH = (":(exclude)dvc.lock", ":(exclude)reports")


def data_hash(workspace: Path = Path(".")) -> str:
    """DVC's hash of the folder ``data`` that ``data.dvc`` pins; ``unknown`` without a ``data.dvc``.

    Raises
    ------
    DataError
        If ``data.dvc`` holds no hash of a folder.
    """
    path = workspace / PIN
    return read_pin(path).hash if path.is_file() else UNKNOWN


def git_commit(workspace: Path = Path(".")) -> str:
    """Full hash of the commit of the code that runs; ``unknown`` outside git.

    ``-dirty`` is appended when tracked files other than what the graph itself writes (``dvc.lock``, ``reports/``)
    differ from it. `workspace` is any folder of the repository.
    """
    commit = git(workspace, "rev-parse", "HEAD")
    if not commit:
        return UNKNOWN
    # ":/" is the whole repository, of which the workspace may be a folder; what is excluded is the workspace's own.
    changed = git(workspace, "status", "--porcelain", "--untracked-files=no", "--", ":/", *_WRITTEN_BY_THE_GRAPH)
    return f"{commit}-dirty" if changed else commit


def git(folder: Path, *arguments: str) -> str:
    """What git prints in a folder, without blanks around it; "" where it fails or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


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
