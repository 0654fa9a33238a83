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


def build(name: str, flags: Sequence[str], extra: Sequence[Path] = ()) -> Path:
    """Compile the engine's sources, with others and flags; a build of the same sources and flags is taken again."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
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
            command = [compiler, "-std=c++17", "-pthread", f"-I{NATIVE / 'include'}", *flags, *sources, "-o", made]
            subprocess.run(command, check=True, timeout=280)
            made.replace(target)
    return target
