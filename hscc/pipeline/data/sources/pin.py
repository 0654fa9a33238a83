"""Is ``data/`` what ``data.dvc`` pins? DVC's hash of a folder, computed without DVC."""

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

from hscc.errors import DataError, first_few
from hscc.files import replace_text
from hscc.pipeline import layout
from hscc.terminal import track

PIN = "data.dvc"
HASH_CACHE = layout.SCRATCH / "md5.json"
PUBLIC_LISTING = "brain-tumor-mri.md5"  # of the public MRI data set, in the format of md5sum

_Known = dict[str, tuple[int, int, int, str]]  # path -> size, mtime in ns, inode, md5


class Pin(NamedTuple):
    """Content of ``data.dvc``: DVC's hash of the folder and the number of its files."""

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
        Posix paths relative to the folder; all empty where no listing of the pinned files is known.
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
        """Whether all pinned files are right and there are others beside them."""
        return bool(self.extra) and not (self.missing or self.changed)

    def __str__(self) -> str:
        """Number and first names of each kind."""
        kinds = (("missing", self.missing), ("changed", self.changed), ("extra", self.extra))
        named = [f"{len(paths):,} {kind} ({first_few(paths)})" for kind, paths in kinds if paths]
        counted = f"{self.files_found:,} files with hash {self.found} where {self.files_wanted:,} are pinned"
        return "none" if self.clean else ", ".join(named) or counted


def check_pin(workspace: Path) -> None:
    """Check that a workspace's images are the ones that it pins; without ``data.dvc`` it pins nothing.

    Reads only files that changed since the last check.

    Raises
    ------
    DataError
        If ``data/`` is missing or differs, with number and first names of missing, changed and extra files; or if DVC
        rewrote the pin since it was committed.
    """
    if not (workspace / PIN).is_file():
        return
    pin = trusted_pin(workspace)
    data = workspace / layout.DATA
    if not data.is_dir():
        raise DataError(f"{data} does not exist; bring the images with 'hscc fetch'.")
    difference = compare(hash_files(data, workspace / HASH_CACHE), pin)
    if difference.clean:
        return
    fix = "move the extra files away" if difference.only_extra else "restore it with 'hscc fetch'"
    raise DataError(
        f"{data} is not what {pin.path} pins: {difference}; {fix}, or pin it on purpose with 'dvc add {layout.DATA}'."
    )


def trusted_pin(workspace: Path) -> Pin:
    """Read a workspace's pin and check that it is the committed one.

    Raises
    ------
    DataError
        If it is missing, damaged, or was rewritten since the last commit.
    """
    pin = read_pin(workspace / PIN)
    committed = _committed(pin.path)
    if committed is not None and committed.hash != pin.hash:
        difference = compare(hash_files(workspace / layout.DATA, workspace / HASH_CACHE), committed)
        against = "data/ is what the commit pins" if difference.clean else f"against the commit data/ has {difference}"
        raise DataError(
            f"{pin.path} was rewritten since it was committed (DVC does so when data/ changes): {against}; "
            f"run 'git checkout {pin.path.name}' and 'hscc fetch', or commit it if the new data set is meant."
        )
    return pin


def read_pin(path: Path) -> Pin:
    """Read a file that ``dvc add`` wrote for a folder.

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


def pinned_files(pin: Pin) -> dict[str, str] | None:
    """Find the listing behind a pin, which holds only its hash.

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


def public_files() -> dict[str, str]:
    """Return the listing of the public MRI data set: MD5 in hex by posix path."""
    text = resources.files("hscc.pipeline.data.sources").joinpath(PUBLIC_LISTING).read_text(encoding="utf-8")
    return {line[34:]: line[:32] for line in text.splitlines()}


def directory_hash(files: Mapping[str, str]) -> str:
    """Compute the hash that DVC gives a folder, from the MD5 in hex of its files by relative posix path.

    It is the MD5 of the JSON listing of the files, as ``dvc_data.hashfile.tree.Tree.as_bytes`` writes it, and ``.dir``.
    """
    listing = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    return md5_of(json.dumps(listing, sort_keys=True).encode()) + ".dir"


def hash_files(root: Path, cache: Path | None = None) -> dict[str, str]:
    """Hash every file under a folder.

    Parameters
    ----------
    root : Path
        The folder. One that does not exist has no files.
    cache : Path, optional
        File that keeps hashes between calls. A file whose size, time of change and inode are as kept is not read
        again, which is DVC's own rule.

    Returns
    -------
    dict of str to str
        MD5 in hex by posix path relative to ``root``, sorted by path.

    Raises
    ------
    DataError
        If a file cannot be read.
    """
    known = _read_cache(cache)
    current: _Known = {}
    paths = sorted(Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    for path in track(paths, "Checking files"):
        relative = path.relative_to(root).as_posix()
        try:
            stat = path.stat()
            facts = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
            kept = known.get(relative)
            unchanged = kept is not None and kept[:3] == facts
            current[relative] = (*facts, kept[3] if kept and unchanged else md5_of(path.read_bytes()))
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); restore or remove it.") from error
    if cache is not None and current != known:
        replace_text(cache, json.dumps(current), shared=True)
    return {path: current[path][3] for path in sorted(current)}


def md5_of(content: bytes) -> str:
    """Return the MD5 of some bytes in hex: DVC's choice, an address and no protection against an attacker."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _parse(path: Path, text: str) -> Pin:
    try:
        out = yaml.safe_load(text)["outs"][0]
        pin = Pin(path, str(out["md5"]), int(out.get("nfiles", 0)))
    except (yaml.YAMLError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} pins no folder (outs[0].md5); restore it with 'git checkout {path.name}'.") from error
    if not pin.hash.endswith(".dir"):
        raise DataError(f"{path} pins a file and no folder; restore it with 'git checkout {path.name}'.")
    return pin


def _committed(path: Path) -> Pin | None:
    command = ["git", "show", f"HEAD:./{path.name}"]
    try:
        shown = subprocess.run(command, cwd=path.absolute().parent, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return _parse(path, shown.stdout) if shown.returncode == 0 else None


def _read_cache(cache: Path | None) -> _Known:
    if cache is None:
        return {}
    try:
        loaded = json.loads(cache.read_text(encoding="utf-8"))
        return {
            str(path): (int(size), int(time), int(inode), str(md5)) for path, (size, time, inode, md5) in loaded.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # absent or damaged: hash again
        return {}
