"""Replace a file or a folder whole or not at all; hash a file."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a path to write a file or make a folder at; on success it replaces the target.

    The path has the target's name, which some formats store inside, and lies in a temporary folder beside it, which is
    removed in the end.

    Parameters
    ----------
    path : Path
        The target; stays as it is if the block raises. Its parent folder is made.
    shared : bool
        Whether several processes may replace the target at once. Each then has a temporary folder of its own;
        otherwise there is one, so that what a killed process left behind is removed by the next.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.new"
    if shared:
        folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=path.parent))
    else:
        folder = path.with_name(prefix)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    try:
        yield folder / path.name
        move_into_place(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_into_place(new: Path, path: Path) -> None:
    """Put a finished file or folder in the place of an old one of the same file system; the parent folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    old = new.with_name(f"{new.name}.old")
    if new.is_dir() and path.is_dir():  # the system replaces only empty folders
        os.replace(path, old)
    os.replace(new, path)
    shutil.rmtree(old, ignore_errors=True)


def replace_bytes(path: Path, content: bytes, *, shared: bool = False) -> None:
    """Write a file; see `replacing`."""
    with replacing(path, shared=shared) as new:
        new.write_bytes(content)


def replace_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Write a UTF-8 text file; see `replacing`."""
    replace_bytes(path, text.encode("utf-8"), shared=shared)


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal, without holding it in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
