from __future__ import annotations

import random
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hscc.pipeline.data.sources.download import DownloadError, download

CONTENT = random.Random(0).randbytes(700_000)


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``cuts`` lists after how many bytes to hang up, one an answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag = '"one"'
        self.resumes = True
        self.says_length = True
        self.cuts: list[int] = []
        self.status = 200
        self.asked: list[str | None] = []
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/images.tar.gz"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        same = self.headers.get("If-Range", server.etag) == server.etag
        start = int(re.findall(r"\d+", wanted)[0]) if wanted and same and server.resumes else 0
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[:cut])
        server.sent += len(body[:cut])

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def left_over(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_brings_the_file_and_leaves_nothing_else(server: Server, tmp_path: Path):
    download(server.url, tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert left_over(tmp_path / "new" / "file") == []


def test_goes_on_after_a_broken_connection(server: Server, tmp_path: Path):
    server.cuts = [300_000, 100_000]
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=400000-"]
    assert server.sent == len(CONTENT)


def test_goes_on_where_a_killed_call_stopped(server: Server, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT[:500_000])
    (tmp_path / "file.etag").write_text('"one"')
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.sent == 200_000
    assert left_over(tmp_path / "file") == []


def test_starts_anew_when_the_content_changed(server: Server, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(b"old" * 1000)
    (tmp_path / "file.etag").write_text('"old"')
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_starts_anew_when_the_server_cannot_resume(server: Server, tmp_path: Path):
    server.resumes, server.etag = False, ""
    (tmp_path / "file.part").write_bytes(CONTENT[:100])
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_starts_anew_when_more_is_there_than_the_server_has(server: Server, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_takes_what_comes_when_no_length_is_told(server: Server, tmp_path: Path):
    server.says_length = False
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_gives_up_on_a_server_that_sends_nothing_more(server: Server, tmp_path: Path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(DownloadError, match=r"^127\.0\.0\.1 stops sending$"):
        download(server.url, tmp_path / "file")
    assert (tmp_path / "file.part").read_bytes() == CONTENT[:1000]
    assert not (tmp_path / "file").exists()


def test_says_what_the_server_answers(server: Server, tmp_path: Path):
    server.status = 404
    with pytest.raises(DownloadError, match=r"^127\.0\.0\.1 answers 404 Not Found$"):
        download(server.url, tmp_path / "file")


def test_says_when_nobody_answers(tmp_path: Path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(DownloadError, match=r"^127\.0\.0\.1 cannot be reached \(Connection refused\)$"):
            download(f"http://127.0.0.1:{unused.getsockname()[1]}/x", tmp_path / "file")
