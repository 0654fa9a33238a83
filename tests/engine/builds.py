"""Builds of the engine's C++ sources for tests, kept under .hscc by a hash of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from hscc.engine.library import NATIVE

CACHE = Path(__file__).parents[2] / ".hscc" / "engine-tests"
SOURCES = sorted([*(NATIVE / "src").iterdir(), *(NATIVE / "include").iterdir()])


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which(os.environ.get("CXX", "c++"))


def build(name: str, flags: Sequence[str], extra: Sequence[Path] = ()) -> Path:
    """Compile the engine's sources, with others and flags; a build of the same sources and flags is taken again."""
    command = compiler()
    if command is None:
        pytest.skip("there is no C++ compiler")
    digest = sha256(repr(flags).encode())
    for path in (*SOURCES, *extra):
        digest.update(path.name.encode() + path.read_bytes())
    target = CACHE / digest.hexdigest()[:20] / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        sources = [path for path in (*SOURCES, *extra) if path.suffix == ".cpp"]
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / name
            options = ["-std=c++17", "-pthread", f"-I{NATIVE / 'include'}", *flags]
            subprocess.run([command, *options, *sources, "-o", made], check=True, timeout=280)
            made.replace(target)
    return target
