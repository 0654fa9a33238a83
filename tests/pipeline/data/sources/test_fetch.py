from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hscc.errors import DataError
from hscc.pipeline.data.phantom.dataset import draw_dataset
from hscc.pipeline.data.sources import fetch as fetching
from hscc.pipeline.data.sources import origins as sources
from hscc.pipeline.data.sources import pin as pinning
from hscc.pipeline.data.sources.fetch import SOURCE_VARIABLE, fetch
from hscc.pipeline.data.sources.pin import directory_hash, hash_files
from tests.in_process import dvc

NOWHERE = "http://127.0.0.1:9/images.tar.gz"  # the discard port: nobody answers


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "images"
    draw_dataset(root, train_per_class=2, test_per_class=1, size=48, seed=0, duplicates=2)
    return root


@pytest.fixture
def workspace(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that pins the phantom as if it were the public data set, on a machine without a network."""
    files = hash_files(images)
    for module in (pinning, fetching):
        monkeypatch.setattr(module, "public_files", lambda: files)
    monkeypatch.setattr(sources, "GITHUB_ARCHIVE", NOWHERE)
    monkeypatch.setattr("kagglehub.dataset_download", no_network)
    monkeypatch.delenv(SOURCE_VARIABLE, raising=False)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    write_pin(workspace, files)
    return workspace


def no_network(_handle: str) -> str:
    raise ConnectionError("Failed to resolve 'api.kaggle.com'")


def write_pin(workspace: Path, files: dict[str, str]) -> None:
    digest = directory_hash(files)
    (workspace / "data.dvc").write_text(f"outs:\n- md5: {digest}\n  nfiles: {len(files)}\n  hash: md5\n  path: data\n")


def same(workspace: Path, images: Path) -> bool:
    return hash_files(workspace / "data") == hash_files(images)


def packed(images: Path, target: Path, kind: str, top: str) -> Path:
    stage = target / "stage"
    shutil.copytree(images, stage / top if top else stage)
    return Path(shutil.make_archive(str(target / "images"), kind, stage))


@pytest.fixture
def website(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "website"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("above", [False, True])
def test_brings_a_folder(workspace: Path, images: Path, above: bool, capsys: pytest.CaptureFixture[str]):
    fetch(workspace, images.parent if above else images)
    assert same(workspace, images)
    assert "holds the 14 files that data.dvc pins" in capsys.readouterr().out


@pytest.mark.parametrize("top", ["", "brain-3ea9f4e"])
@pytest.mark.parametrize("kind", ["zip", "gztar"])
def test_brings_an_archive(workspace: Path, images: Path, tmp_path: Path, kind: str, top: str):
    fetch(workspace, packed(images, tmp_path, kind, top))
    assert same(workspace, images)


def test_the_environment_names_a_source_too(workspace: Path, images: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SOURCE_VARIABLE, str(images))
    fetch(workspace)
    assert same(workspace, images)


def test_no_source_is_tried_when_all_is_there(workspace: Path, images: Path, capsys: pytest.CaptureFixture[str]):
    shutil.copytree(images, workspace / "data")
    fetch(workspace, workspace / "a source that does not exist")
    assert capsys.readouterr().out.endswith("already holds the 14 files that data.dvc pins.\n")


def test_a_killed_fetch_resumes(workspace: Path, images: Path, monkeypatch: pytest.MonkeyPatch):
    write, written = fetching._write, []

    def killed_after_five(data: Path, path: str, content: bytes) -> None:
        if len(written) == 5:
            (data / ".fetching").write_bytes(content[:10])
            raise KeyboardInterrupt
        write(data, path, content)
        written.append(path)

    monkeypatch.setattr(fetching, "_write", killed_after_five)
    with pytest.raises(KeyboardInterrupt):
        fetch(workspace, images)
    times = {path: (workspace / "data" / path).stat().st_mtime_ns for path in written}
    assert len(times) == 5
    again: list[str] = []
    monkeypatch.setattr(
        fetching, "_write", lambda data, path, content: (again.append(path), write(data, path, content))
    )
    fetch(workspace, images)
    assert same(workspace, images)
    assert len(again) == 14 - 5
    assert {path: (workspace / "data" / path).stat().st_mtime_ns for path in times} == times


def test_changed_files_are_restored_and_the_rest_is_kept(workspace: Path, images: Path):
    shutil.copytree(images, workspace / "data")
    (workspace / "data/Training/no_tumor/image(1).jpg").write_bytes(b"scribble")
    (workspace / "data/Testing/no_tumor/image(1).jpg").unlink()
    kept = (workspace / "data/Testing/glioma_tumor/image(1).jpg").stat().st_ino
    fetch(workspace, images)
    assert same(workspace, images)
    assert (workspace / "data/Testing/glioma_tumor/image(1).jpg").stat().st_ino == kept


def test_extra_files_are_reported_and_stay(workspace: Path, images: Path):
    shutil.copytree(images, workspace / "data")
    (workspace / "data/mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"1 extra \(mine\.txt\); move the extra files away\.$"):
        fetch(workspace, images)
    assert (workspace / "data/mine.txt").read_text() == "mine"


def test_wrong_bytes_are_never_written(workspace: Path, images: Path, tmp_path: Path):
    shutil.copytree(images, tmp_path / "other")
    (tmp_path / "other/Training/no_tumor/image(1).jpg").write_bytes(b"another image")
    (tmp_path / "other/Training/no_tumor/image(9).jpg").write_bytes(b"an image too many")
    with pytest.raises(DataError, match=r"--from \S+ \(leaves 1 missing \(Training/no_tumor/image\(1\)\.jpg\)\)"):
        fetch(workspace, tmp_path / "other")
    expected = hash_files(images)
    del expected["Training/no_tumor/image(1).jpg"]
    assert hash_files(workspace / "data") == expected


def test_without_any_source_the_error_lists_what_was_tried(workspace: Path):
    with pytest.raises(DataError) as caught:
        fetch(workspace)
    message = str(caught.value)
    assert "14 missing (Testing/glioma_tumor/image(1).jpg, " in message
    assert "tried the DVC remote (none is configured), GitHub (127.0.0.1 cannot be reached (Connection" in message
    assert "Kaggle (api.kaggle.com cannot be reached); name a folder or archive" in message
    assert "--from" in message
    assert SOURCE_VARIABLE in message
    assert "\n" not in message


def test_a_named_source_that_is_absent_stops_at_once(workspace: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(DataError, match="absent does not exist; name a folder or an archive"):
        fetch(workspace, workspace / "absent")
    assert "GitHub" not in capsys.readouterr().out


def test_an_archive_that_leads_out_is_refused(workspace: Path, images: Path, tmp_path: Path):
    archive = packed(images, tmp_path, "tar", "")
    with tarfile.open(archive, "a") as opened:
        opened.add(images / "Testing/no_tumor/image(1).jpg", "Training/../../../evil.jpg")
    with pytest.raises(DataError, match="leads out of its folder"):
        fetch(workspace, archive)
    assert hash_files(workspace / "data") == {}


def test_a_missing_pin_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"data\.dvc is not here"):
        fetch(tmp_path)


def test_brings_the_github_archive(
    workspace: Path, images: Path, tmp_path: Path, website: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
):
    folder, url = website
    packed(images, tmp_path, "gztar", "Brain-Tumor-3ea9f4e").rename(folder / "commit")
    monkeypatch.setattr(sources, "GITHUB_ARCHIVE", f"{url}/commit")
    fetch(workspace)
    assert same(workspace, images)
    assert not (workspace / sources.DOWNLOADS).exists()


def test_a_damaged_download_is_deleted(workspace: Path, website: tuple[Path, str], monkeypatch: pytest.MonkeyPatch):
    folder, url = website
    (folder / "commit").write_bytes(b"\x1f\x8b of no archive")
    monkeypatch.setattr(sources, "GITHUB_ARCHIVE", f"{url}/commit")
    with pytest.raises(DataError, match="GitHub \\(the download is damaged"):
        fetch(workspace)
    assert list((workspace / sources.DOWNLOADS).iterdir()) == []


def test_brings_the_kaggle_data_set(workspace: Path, images: Path, monkeypatch: pytest.MonkeyPatch):
    handles: list[str] = []
    monkeypatch.setattr("kagglehub.dataset_download", lambda handle: handles.append(handle) or str(images))
    fetch(workspace)
    assert same(workspace, images)
    assert handles == [sources.KAGGLE_DATASET]


def test_a_missing_kagglehub_is_named(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError, match=r"Kaggle \(kagglehub is not installed"):
        fetch(workspace)


def test_a_data_set_without_a_listing_is_checked_before_it_is_written(workspace: Path, images: Path, tmp_path: Path):
    own = tmp_path / "own"
    draw_dataset(own, train_per_class=1, test_per_class=1, size=48, seed=7, duplicates=0)
    write_pin(workspace, hash_files(own))  # no listing of it anywhere
    with pytest.raises(
        DataError, match=r"\(holds another data set: 14 files with hash .*\), the DVC remote .*\); name"
    ):
        fetch(workspace, images)
    assert hash_files(workspace / "data") == {}
    fetch(workspace, own)
    assert same(workspace, own)


def test_pulls_from_a_dvc_remote(workspace: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    shutil.copytree(images, workspace / "data")
    dvc(workspace, "init", "--no-scm", "-q")
    dvc(workspace, "remote", "add", "-d", "-q", "store", str(tmp_path / "store"))
    dvc(workspace, "add", "-q", "data")
    assert directory_hash(hash_files(images)) in (workspace / "data.dvc").read_text()
    dvc(workspace, "push", "-q")
    shutil.rmtree(workspace / "data")
    shutil.rmtree(workspace / ".dvc/cache")
    fetch(workspace)
    assert same(workspace, images)


def test_the_error_of_dvc_is_named(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    def dvc(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        listing = command[-2:] == ["remote", "list"]
        error = "" if listing else "WARNING: slow\nERROR: failed to connect to store (1.2.3.4)\n\nLearn more\n"
        return subprocess.CompletedProcess(command, 0 if listing else 255, "store\ts3://store\n", error)

    (workspace / ".dvc").mkdir()
    monkeypatch.setattr(sources.subprocess, "run", dvc)
    with pytest.raises(sources.Unavailable, match=r"^failed to connect to store \(1\.2\.3\.4\)$"):
        sources.pull_from_dvc(workspace)
