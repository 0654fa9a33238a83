"""DVC's hash of a folder, computed without DVC, with a memo so that unchanged files are read once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import yaml
from rich.console import Console
from rich.progress import track

from hscc.errors import DataError
from hscc.files import replace_text

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
    replace_text(memo, json.dumps(content), shared=True)


DATA = "data"
PIN = "data.dvc"
MEMO = ".hscc/md5.json"
PUBLIC_LISTING = "brain-tumor-mri.md5"  # of the public MRI data set, in the format of md5sum
_SHOWN = 3  # names of files in a message


class Pin(NamedTuple):
    """What ``data.dvc`` says: DVC's hash of the folder and the number of its files."""

    path: Path
    hash: str
    files: int


@dataclass(frozen=True)
class Difference:
    """How a folder differs from its pin.

    Attributes
    ----------
    wanted, found : str
        DVC's hash of the pinned folder and of the one that is there.
    missing, changed, extra : tuple of str
        Posix paths relative to the folder; all empty where no listing of the pinned files is at hand.
    files_wanted, files_found : int
        Numbers of files.
    """

    wanted: str
    found: str
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    extra: tuple[str, ...]
    files_wanted: int
    files_found: int

    @property
    def clean(self) -> bool:
        """Whether there is none."""
        return self.wanted == self.found

    @property
    def only_extra(self) -> bool:
        """Whether all pinned files are right and others stand beside them."""
        return bool(self.extra) and not (self.missing or self.changed)

    def __str__(self) -> str:
        """Say it in words: numbers, and the first names of each kind."""
        kinds = (("missing", self.missing), ("changed", self.changed), ("extra", self.extra))
        named = [f"{len(paths):,} {kind} ({_first(paths)})" for kind, paths in kinds if paths]
        counted = f"{self.files_found:,} files with hash {self.found} where {self.files_wanted:,} are pinned"
        return "none" if self.clean else ", ".join(named) or counted


def _first(paths: tuple[str, ...]) -> str:
    rest = len(paths) - _SHOWN
    return ", ".join(paths[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def read_pin(path: Path) -> Pin:
    """Read a pin.

    Parameters
    ----------
    path : Path
        A file that ``dvc add`` wrote for a folder.

    Returns
    -------
    Pin
        Its content.

    Raises
    ------
    DataError
        If it is missing or pins no folder.
    """
    try:
        return _parse(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not here or not readable; run from the folder that holds it, or 'git checkout {path.name}'."
        ) from error


def _parse(path: Path, text: str) -> Pin:
    try:
        out = yaml.safe_load(text)["outs"][0]
        pin = Pin(path, str(out["md5"]), int(out.get("nfiles", 0)))
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} pins no folder (outs[0].md5); restore it with 'git checkout {path.name}'.") from error
    if not pin.hash.endswith(".dir"):
        raise DataError(f"{path} pins a file and no folder; restore it with 'git checkout {path.name}'.")
    return pin


def public_files() -> dict[str, str]:
    """Return the listing of the public MRI data set: MD5 in hex by posix path."""
    text = resources.files("hscc.pipeline.data.sources").joinpath(PUBLIC_LISTING).read_text(encoding="utf-8")
    return {line[34:]: line[:32] for line in text.splitlines()}


def pinned_files(pin: Pin) -> dict[str, str] | None:
    """Find the listing behind a pin.

    Parameters
    ----------
    pin : Pin
        Only the hash of the listing stands in it.

    Returns
    -------
    dict of str to str, or None
        MD5 in hex by posix path, from the public data set's own listing or from DVC's cache, whichever has the pinned
        hash; None where neither has.
    """
    public = public_files()
    if directory_hash(public) == pin.hash:
        return public
    for folder in (pin.path.absolute().parent, *pin.path.absolute().parents):
        cached = folder / ".dvc" / "cache" / "files" / "md5" / pin.hash[:2] / pin.hash[2:]
        if cached.is_file():
            listing = {entry["relpath"]: entry["md5"] for entry in json.loads(cached.read_text(encoding="utf-8"))}
            return listing if directory_hash(listing) == pin.hash else None
    return None


def verify(data: Path, pin: Path, memo: Path | None = None) -> Difference:
    """Compare a folder with a pin.

    Parameters
    ----------
    data : Path
        The folder of images.
    pin : Path
        Its ``data.dvc``.
    memo : Path, optional
        Where to remember the hashes of files.

    Returns
    -------
    Difference
        Clean when DVC's hash of the folder is the pinned one.

    Raises
    ------
    DataError
        If the pin or a file cannot be read.
    """
    return compare(hash_files(data, memo), read_pin(pin))


def compare(found: Mapping[str, str], pin: Pin) -> Difference:
    """Compare the hashes of files (MD5 in hex by posix path) with a pin."""
    wanted = pinned_files(pin)
    names = found.keys() if wanted is None else wanted.keys()
    listing = found if wanted is None else wanted
    return Difference(
        wanted=pin.hash,
        found=directory_hash(found),
        missing=tuple(sorted(names - found.keys())),
        changed=tuple(sorted(path for path in names & found.keys() if found[path] != listing[path])),
        extra=tuple(sorted(found.keys() - names)),
        files_wanted=pin.files,
        files_found=len(found),
    )


def trusted_pin(workspace: Path) -> Pin:
    """Read a workspace's pin and see that it is the committed one.

    Parameters
    ----------
    workspace : Path
        The folder of ``data.dvc``.

    Returns
    -------
    Pin
        What to fetch or to check against.

    Raises
    ------
    DataError
        If it is missing, damaged, or was rewritten since the last commit.
    """
    pin = read_pin(workspace / PIN)
    committed = _committed(pin.path)
    if committed is not None and committed.hash != pin.hash:
        difference = compare(hash_files(workspace / DATA, workspace / MEMO), committed)
        against = "data/ is what the commit pins" if difference.clean else f"against the commit data/ has {difference}"
        raise DataError(
            f"{pin.path} was rewritten since it was committed (DVC does so when data/ changes): {against}; "
            f"run 'git checkout {pin.path.name}' and 'hscc fetch', or commit it if the new data set is meant."
        )
    return pin


def _committed(path: Path) -> Pin | None:
    command = ["git", "show", f"HEAD:./{path.name}"]
    try:
        shown = subprocess.run(command, cwd=path.absolute().parent, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return _parse(path, shown.stdout) if shown.returncode == 0 else None


def check_pin(workspace: Path) -> None:
    """Stop when a workspace's images are not the ones that it pins.

    Reads only files that changed since the last check. A workspace without ``data.dvc`` pins nothing and passes.

    Parameters
    ----------
    workspace : Path
        The folder of ``data.dvc`` and ``data/``.

    Raises
    ------
    DataError
        If ``data/`` is missing or differs, with the number and the first names of missing, changed and extra files;
        or if DVC rewrote the pin since it was committed.
    """
    if not (workspace / PIN).is_file():
        return
    pin = trusted_pin(workspace)
    data = workspace / DATA
    if not data.is_dir():
        raise DataError(f"{data} does not exist; bring the images with 'hscc fetch'.")
    difference = compare(hash_files(data, workspace / MEMO), pin)
    if difference.clean:
        return
    mend = "move the extra files away" if difference.only_extra else "restore it with 'hscc fetch'"
    raise DataError(
        f"{data} is not what {pin.path} pins: {difference}; {mend}, or pin it on purpose with 'dvc add {DATA}'."
    )
