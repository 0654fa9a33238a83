"""Folders, zip and tar archives as streams of image files, without the other files in them."""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hscc.errors import DataError

FOLDERS = ("Training", "Testing")  # of the public MRI data set
# What reading a damaged archive raises; RuntimeError and NotImplementedError: encrypted, or an unknown compression.
_DAMAGE = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, RuntimeError)
# What desktops leave in folders.
_JUNK = (".DS_Store", "Thumbs.db", "desktop.ini")


class SourceFile(NamedTuple):
    """A file of a data set: its posix path from the folder of Training/ and Testing/, and how to read it.

    ``read`` works until the next file is requested.
    """

    path: str
    read: Callable[[], bytes]


def read_container(path: Path) -> Iterator[SourceFile]:
    """Stream the files of a data set out of a folder or an archive.

    Parameters
    ----------
    path : Path
        A folder, a .zip, or a .tar with any compression. Training/ and Testing/ are at its top or one folder below.

    Yields
    ------
    SourceFile
        Every regular file under Training/ and Testing/; links are skipped.

    Raises
    ------
    DataError
        If it is none of these, is damaged, holds no such folders, or names a path that leads out of it.
    """
    if path.is_dir():
        yield from _from_folder(path)
        return
    if not path.is_file():
        raise DataError(f"{path} does not exist; name a folder or an archive that holds Training/ and Testing/.")
    try:
        if zipfile.is_zipfile(path):
            yield from _from_zip(path)
        elif tarfile.is_tarfile(path):
            yield from _from_tar(path)
        else:
            raise DataError(f"{path} is neither a folder nor a .zip or .tar.gz archive, or it is cut short; name one.")
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is damaged or cut short ({error}); get a whole copy.")


def _read(path: Path, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _from_folder(path: Path) -> Iterator[SourceFile]:
    files = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    for index, inner in _inside(path, [file.relative_to(path).as_posix() for file in files]):
        yield SourceFile(inner, partial(_read, path, files[index].read_bytes))


def _from_zip(path: Path) -> Iterator[SourceFile]:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if not member.is_dir()]
        for index, inner in _inside(path, [member.filename for member in members]):
            yield SourceFile(inner, partial(_read, path, partial(archive.read, members[index])))


def _from_tar(path: Path) -> Iterator[SourceFile]:
    with tarfile.open(path) as archive:
        members = [member for member in archive.getmembers() if member.isreg()]
        for index, inner in _inside(path, [member.name for member in members]):
            yield SourceFile(inner, partial(_read, path, partial(_read_member, archive, members[index])))


def _read_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream else b""


def _inside(path: Path, names: list[str]) -> Iterator[tuple[int, str]]:
    """Keep what lies under Training/ and Testing/: its index in ``names``, its path from the folder that holds them."""
    parted = [_safe_parts(path, name) for name in names]
    root = _root(path, parted)
    for index, parts in enumerate(parted):
        inner = parts[len(root) :]
        junk = parts[-1] in _JUNK or parts[-1].startswith("._")
        if parts[: len(root)] == root and len(inner) > 1 and inner[0] in FOLDERS and not junk:
            yield index, "/".join(inner)


def _safe_parts(path: Path, name: str) -> tuple[str, ...]:
    pure = PurePosixPath(name.replace("\\", "/"))
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or ":" in "".join(pure.parts[:1]):
        raise DataError(f"{path} holds the path {name!r}, which leads out of its folder; use a trusted archive.")
    return pure.parts


def _root(path: Path, members: list[tuple[str, ...]]) -> tuple[str, ...]:
    first, second = (
        {parts[:depth] for parts in members for depth in (0, 1) if len(parts) > depth + 1 and parts[depth] == split}
        for split in FOLDERS
    )
    both = sorted(first & second, key=lambda root: (len(root), root))
    if not both:
        raise DataError(f"{path} holds no Training/ and Testing/, nor does a folder in it; name the one that does.")
    return both[0]
