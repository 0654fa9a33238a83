"""DVC's hash of a folder, computed without DVC, with a memo so that unchanged files are read once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import track

from hscc.errors import DataError

_Memo = dict[str, tuple[int, int, int, str]]  # path -> size, mtime in ns, inode, md5


def md5_of(content: bytes) -> str:
    """Return the MD5 of some bytes in hex: DVC's choice, an address and no protection against an attacker."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def directory_hash(files: Mapping[str, str]) -> str:
    """Compute the hash that DVC gives a folder.

    It is the MD5 of the JSON listing of its files, as ``dvc_data.hashfile.tree.Tree.as_bytes`` writes it.

    Parameters
    ----------
    files : mapping of str to str
        MD5 in hex of every file by its posix path relative to the folder.

    Returns
    -------
    str
        32 hex digits and ``.dir``.
    """
    listing = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    return md5_of(json.dumps(listing, sort_keys=True).encode()) + ".dir"


def hash_files(root: Path, memo: Path | None = None) -> dict[str, str]:
    """Hash every file under a folder.

    Parameters
    ----------
    root : Path
        The folder. One that does not exist has no files.
    memo : Path, optional
        Where to remember hashes between calls. A file whose size, time of change and inode are as remembered is
        not read again, which is DVC's own rule.

    Returns
    -------
    dict of str to str
        MD5 in hex by posix path relative to ``root``, sorted by path.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    known = _read_memo(memo)
    current: _Memo = {}
    paths = sorted(Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    screen = Console(stderr=True)
    for path in track(paths, "Checking files", transient=True, console=screen, disable=not screen.is_terminal):
        relative = path.relative_to(root).as_posix()
        try:
            stat = path.stat()
            facts = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            remembered = known.get(relative)
            same = remembered is not None and tuple(remembered[:3]) == facts
            current[relative] = (*facts, remembered[3] if remembered and same else md5_of(path.read_bytes()))
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); mend or remove it.") from error
    if memo is not None and current != known:
        _write_memo(memo, current)
    return {path: current[path][3] for path in sorted(current)}


def _read_memo(memo: Path | None) -> _Memo:
    if memo is None:
        return {}
    try:
        loaded = json.loads(memo.read_text(encoding="utf-8"))
        return {
            str(path): (int(size), int(time), int(inode), str(md5)) for path, (size, time, inode, md5) in loaded.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # absent or damaged: hash anew
        return {}


def _write_memo(memo: Path, content: _Memo) -> None:
    memo.parent.mkdir(parents=True, exist_ok=True)
    part = memo.with_name(f"{memo.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content), encoding="utf-8")
    part.replace(memo)
