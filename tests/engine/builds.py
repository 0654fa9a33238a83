"""Builds of the engine's C++ sources for tests, kept under .hscc by a hash of what they are made of.

``python3.11 -m tests.engine.builds`` makes them all; it needs a C++ compiler and no package of Python.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

from hscc.engine.library import NATIVE

CACHE = Path(__file__).parents[2] / ".hscc" / "engine-tests"
KERNELS = Path(__file__).parent / "native" / "kernels_test.cpp"
FUZZ = Path(__file__).with_name("fuzz.cpp")

# Of every program that runs under sanitizers for memory, so that they share what was compiled; to optimise takes longer
# than these programs then run.
SANITIZED = ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{NATIVE / 'src'}"]

RACES = ["-O0", "-fsanitize=thread", f"-I{NATIVE / 'src'}"]


def compiler() -> str | None:
    """The C++ compiler, if there is one."""
    return shutil.which(os.environ.get("CXX", "c++"))


def build(name: str, flags: Sequence[str], link: Sequence[str] = (), extra: Sequence[Path] = ()) -> Path:
    """Compile the engine's sources, and others, and link them; what was compiled of the same text is taken again.

    Parameters
    ----------
    name : str
        Of the file to make.
    flags : sequence of str
        For compiling and linking.
    link : sequence of str
        For linking.
    extra : sequence of Path
        Further sources.
    """
    if compiler() is None:
        import pytest

        pytest.skip("there is no C++ compiler")
    sources = [*sorted((NATIVE / "src").glob("*.cpp")), *extra]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(partial(_compiled, flags=flags, shared=_headers()), sources))
    return _made(name, [*flags, *link, *map(str, objects)], sha256(repr((flags, link, objects)).encode()).hexdigest())


def fuzz() -> Path:
    """Make the program that reads files, under sanitizers for memory."""
    return build("fuzz", SANITIZED, extra=[FUZZ])


def kernels() -> Path:
    """Make the program that holds kernels against plain loops, under sanitizers for memory."""
    return build("kernels-address", SANITIZED, extra=[KERNELS])


def kernels_for_races() -> Path:
    """Make the same program under the sanitizer for threads."""
    return build("kernels-thread", RACES, extra=[KERNELS])


def installed() -> Path | None:
    """The library beside the package, if it is as new as its sources."""
    made = max(NATIVE.parent.glob("_native*.so"), key=lambda path: path.stat().st_mtime, default=None)
    sources = [path for path in NATIVE.rglob("*") if path.is_file()]
    if made is None or made.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        return None
    return made


def library_of_these_sources() -> Path:
    """The installed library, or else one of its own."""
    return installed() or build("libhscc_engine.so", ["-O3", "-fPIC", "-fvisibility=hidden"], ["-shared"])


def _headers() -> bytes:
    headers = [*(NATIVE / "src").glob("*.h"), *(NATIVE / "src").glob("*.inc"), *(NATIVE / "include").iterdir()]
    return b"".join(path.name.encode() + path.read_bytes() for path in sorted(headers))


def _compiled(source: Path, flags: Sequence[str], shared: bytes) -> Path:
    digest = sha256(repr(flags).encode() + shared + source.read_bytes()).hexdigest()
    return _made(f"{source.stem}.o", ["-c", f"-I{NATIVE / 'include'}", *flags, str(source)], digest)


def _made(name: str, options: Sequence[str], digest: str) -> Path:
    target = CACHE / digest[:20] / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be making it
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                made = Path(folder) / name
                command = [str(compiler()), "-std=c++17", "-pthread", *options, "-o", str(made)]
                subprocess.run(command, check=True)
                made.replace(target)
    return target


if __name__ == "__main__" and compiler() is not None:
    for program in (kernels, fuzz, kernels_for_races):
        program()
