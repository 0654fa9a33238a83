"""A disk that is full while DVC works: one sentence, and no record lost.

DVC empties its small files (``dvc.lock``, the list of claims) before it writes them anew, which on a full disk costs
the records of all stages; of a large one it leaves behind what it could copy, so the disk stays full, and goes on
without it. Here files are replaced whole or not at all, and whoever hands outputs over hears of it.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from dvc_objects.fs.local import LocalFileSystem

from hscc.errors import HSCCError
from hscc.files import replacing

_FULL = (errno.ENOSPC, errno.EDQUOT)


class WholeFiles(LocalFileSystem):
    """The local files as DVC sees them; what is written to one is there once all of it is."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._failed: OSError | None = None

    @contextmanager
    def raising_failed_copies(self) -> Iterator[None]:
        """Raise the error of a copy that failed in the block: DVC logs it and goes on, to fail elsewhere or not at all.

        Raises
        ------
        OSError
            What the first of the copies failed with, whatever DVC made of it.
        """
        self._failed = None
        try:
            yield
        except Exception as error:
            if self._failed is None:
                raise
            raise self._failed from error
        if self._failed is not None:
            raise self._failed

    def open(self, path: Any, mode: str = "r", **kwargs: Any) -> Any:
        """Open a file as DVC asks; text that is to be written goes to a draft first."""
        if mode in ("w", "w+"):
            return _drafted(Path(path), mode, **kwargs)
        return super().open(path, mode, **kwargs)  # type: ignore[call-overload]

    def put_file(self, from_file: Any, to_info: Any, *rest: Any, **kwargs: Any) -> None:
        """Copy a file into the cache; of a copy that fails nothing stays."""
        try:
            if hasattr(from_file, "read"):
                super().put_file(from_file, to_info, *rest, **kwargs)
            else:
                self.makedirs(self.parent(to_info))
                self.fs.copy(from_file, to_info)
        except OSError as error:
            self._failed = self._failed or error
            raise


@contextmanager
def one_sentence(place: Path, before: str = "") -> Iterator[None]:
    """Turn a full disk, however deep in another error, into a sentence.

    Parameters
    ----------
    place : Path
        File or folder on the disk.
    before : str
        How the sentence begins.

    Raises
    ------
    HSCCError
        If the block fails for want of space; every other error passes.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, HSCCError) or not is_full(error):
            raise
        raise HSCCError(f"{before}the disk that holds {place} is full; free some space and run again.") from error


def is_full(error: BaseException) -> bool:
    """Tell whether an error, or what it came from, is a full disk.

    Parameters
    ----------
    error : BaseException
        Such as DVC's own, which wrap the system's.

    Returns
    -------
    bool
        True if space or quota was used up.
    """
    cause, seen = error, set[int]()
    while id(cause) not in seen:  # nothing keeps an error from being its own cause
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        if isinstance(cause, sqlite3.OperationalError) and "disk is full" in str(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__ or cause
    return False


@contextmanager
def _drafted(path: Path, mode: str, **kwargs: Any) -> Iterator[IO[Any]]:
    path = path.resolve()  # a link stays one
    with replacing(path) as draft:
        with draft.open(mode, **kwargs) as file:
            yield file
        if path.exists():
            shutil.copymode(path, draft)
