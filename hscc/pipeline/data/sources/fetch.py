"""Fetch the pinned images from the first source that has them, and check them against the pin."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from rich.console import Console

from hscc.errors import DataError
from hscc.pipeline import layout
from hscc.pipeline.data.sources.containers import SourceFile, read_container
from hscc.pipeline.data.sources.origins import DOWNLOADS, Unavailable, pull_from_dvc, read_github, read_kaggle
from hscc.pipeline.data.sources.pin import (
    HASH_CACHE,
    Difference,
    Pin,
    compare,
    directory_hash,
    hash_files,
    md5_of,
    pinned_files,
    public_files,
    trusted_pin,
)
from hscc.terminal import track

SOURCE_VARIABLE = "HSCC_DATA_SOURCE"
_PART = ".fetching"  # the file in flight; inside data/ so that it lands by a rename, whatever disk that is

_Open = Callable[[], Iterable[SourceFile]]
_Step = tuple[str, Callable[[], None]]  # a source's name, and the function that brings its files


def fetch(workspace: Path, source: Path | str | None = None) -> None:
    """Bring the images that ``data.dvc`` pins into ``data/``, and check them against its hash.

    A named source is tried first; then a DVC remote, the public GitHub repository and Kaggle, until the folder is
    what is pinned. Files that are right already are neither read from a source nor written again, so a killed fetch
    resumes; bytes that are not the pinned ones are never written; extra files are reported and not removed.

    Parameters
    ----------
    workspace : Path
        The folder of ``data.dvc``.
    source : Path or str, optional
        Folder or archive that holds Training/ and Testing/, or a folder that does; by default what HSCC_DATA_SOURCE
        names, if anything.

    Raises
    ------
    DataError
        If the pin is not usable, the named source does not exist or is damaged, or no source has all files; the
        message says what was tried and what is missing, changed or extra.
    """
    pin, data = trusted_pin(workspace), workspace / layout.DATA
    (data / _PART).unlink(missing_ok=True)
    say = Console(highlight=False, markup=False, soft_wrap=True).print
    difference = compare(hash_files(data, workspace / HASH_CACHE), pin)
    if difference.clean:
        say(f"{data} already holds the {difference.files_found:,} files that {pin.path.name} pins.")
        return
    tried = []
    for name, bring in _steps(workspace, pin, source):
        if difference.only_extra:
            break  # no source can take files away
        say(f"Trying {name}")
        try:
            bring()
            difference = compare(hash_files(data, workspace / HASH_CACHE), pin)
            tried.append(f"{name} (leaves {difference})")
        except Unavailable as reason:
            tried.append(f"{name} ({reason})")
        if difference.clean:
            shutil.rmtree(workspace / DOWNLOADS, ignore_errors=True)
            say(f"{data} holds the {difference.files_found:,} files that {pin.path.name} pins, checked by their hash.")
            return
    raise DataError(_failure(data, pin, difference, tried))


def _failure(data: Path, pin: Pin, difference: Difference, tried: list[str]) -> str:
    if difference.only_extra:
        return f"{data} holds more than {pin.path} pins: {difference}; move the extra files away."
    return (
        f"{data} is not what {pin.path} pins: {difference}; tried {', '.join(tried)}; name a folder or archive of the "
        f"whole data set with --from or {SOURCE_VARIABLE}."
    )


def _steps(workspace: Path, pin: Pin, source: Path | str | None) -> Iterator[_Step]:
    data, variable = workspace / layout.DATA, os.environ.get(SOURCE_VARIABLE)
    named = source or variable
    if named:
        path = Path(named).expanduser()
        how = "--from" if source else SOURCE_VARIABLE
        yield f"{how} {path}", partial(_bring, partial(read_container, path), data, pin)
    yield "the DVC remote", partial(pull_from_dvc, workspace)
    if directory_hash(public_files()) == pin.hash:  # the public places hold the public data set only
        yield "GitHub", partial(_bring, partial(read_github, workspace), data, pin)
        yield "Kaggle", partial(_bring, read_kaggle, data, pin)


def _bring(source: _Open, data: Path, pin: Pin) -> None:
    """Copy what ``data`` lacks of the pinned files."""
    wanted = pinned_files(pin) or _listing(source, pin)
    present = hash_files(data, data.parent / HASH_CACHE)
    for file in track(source(), "Bringing images", len(wanted)):
        if file.path not in wanted or present.get(file.path) == wanted[file.path]:
            continue
        content = file.read()
        if md5_of(content) == wanted[file.path]:
            _write(data, file.path, content)


def _listing(source: _Open, pin: Pin) -> dict[str, str]:
    """Hash a whole source: the only check where the listing behind a pin is not known."""
    found = {file.path: md5_of(file.read()) for file in track(source(), "Reading the source", pin.files)}
    if directory_hash(found) != pin.hash:
        raise Unavailable(f"holds another data set: {len(found):,} files with hash {directory_hash(found)}")
    return found


def _write(data: Path, path: str, content: bytes) -> None:
    target = data / path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = data / _PART
    part.write_bytes(content)
    part.replace(target)
