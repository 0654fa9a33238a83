"""Resumable download of one file over HTTP."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 20.0  # seconds without an answer


class DownloadError(Exception):
    """A file could not be downloaded; the message is the short reason."""


def download(url: str, target: Path) -> None:
    """Download a file, resuming what an earlier call or a broken connection left.

    What has arrived is in ``<target>.part``; its ETag beside it makes sure that the rest belongs to the same
    content (RFC 9110, If-Range). A server that cannot resume sends all of it again.

    Parameters
    ----------
    url : str
        http or https address.
    target : Path
        Where the file goes once it is whole.

    Raises
    ------
    DownloadError
        If the server cannot be reached, refuses, or stops sending.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part, tag = target.with_name(f"{target.name}.part"), target.with_name(f"{target.name}.etag")
    while True:
        before = _size(part)
        try:
            whole = _receive(url, part, tag)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not before:
                raise DownloadError(f"{urlsplit(url).hostname} answers {error.code} {error.reason}") from error
            part.unlink()  # longer than the server's file: of other content
            continue
        except (OSError, http.client.HTTPException) as error:
            if _size(part) <= before:
                raise DownloadError(f"{urlsplit(url).hostname} cannot be reached ({_reason(error)})") from error
            continue  # something arrived: request the rest
        if whole:
            break
        if _size(part) <= before:
            raise DownloadError(f"{urlsplit(url).hostname} stops sending")
    part.replace(target)
    tag.unlink(missing_ok=True)


def _receive(url: str, part: Path, tag: Path) -> bool:
    """Append one answer to the part; returns whether the file is whole now."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "hscc"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag.is_file():
            request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        resumed = answer.status == 206
        start = have if resumed else 0
        total = _total(answer.headers, start)
        etag = answer.headers.get("ETag", "")
        if etag and not etag.startswith("W/"):  # a weak one must not be sent with If-Range
            tag.write_text(etag, encoding="utf-8")
        with part.open("ab" if resumed else "wb") as file, _bar(url, start, total) as progress:
            while chunk := answer.read(_CHUNK):
                file.write(chunk)
                progress.advance(progress.task_ids[0], len(chunk))
    return total is None or _size(part) >= total


def _total(headers: http.client.HTTPMessage, start: int) -> int | None:
    ranged = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("Content-Range", ""))
    if ranged:
        return int(ranged[1])
    length = headers.get("Content-Length")
    return start + int(length) if length else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: OSError | http.client.HTTPException) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)


@contextmanager
def _bar(url: str, start: int, total: int | None) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    screen = Console(stderr=True)
    with Progress(*columns, transient=True, console=screen, disable=not screen.is_terminal) as progress:
        progress.add_task(f"Downloading from {urlsplit(url).hostname}", total=total, completed=start)
        yield progress
