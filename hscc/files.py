"""Write a file beside its target and put it there when it has proved itself."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path of the same name in a folder of its own beside the target; move the file there on success.

    The name stays because torch's archives carry it inside.

    Parameters
    ----------
    path : Path
        The target; stays as it was if the block raises. Its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        yield partial
        os.replace(partial, path)


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal, without holding it in memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
