from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hscc.errors import DataError
from hscc.pipeline.data.sources.containers import read_container

FILES = {
    "Training/no_tumor/image(1).jpg": b"one",
    "Training/glioma_tumor/gg (2).jpg": b"two",
    "Testing/no_tumor/image(1).jpg": b"three",
}
AROUND = {"README.md": b"read me", "Training/.DS_Store": b"litter", "Testing/no_tumor/._image(1).jpg": b"litter"}


def folder(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    for name, content in files.items():
        target = path / prefix / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return path


def zipped(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], prefix: str = "") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


MAKERS = {"folder": folder, "zip": zipped, "tar.gz": tarred}


@pytest.mark.parametrize("prefix", ["", "some-repository-3ea9f4e/"])
@pytest.mark.parametrize("kind", MAKERS)
def test_streams_the_images_and_nothing_around_them(tmp_path: Path, kind: str, prefix: str):
    path = MAKERS[kind](tmp_path / f"source.{kind}", FILES | AROUND, prefix)
    assert {file.path: file.read() for file in read_container(path)} == FILES


@pytest.mark.parametrize("kind", MAKERS)
def test_two_folders_above_is_refused(tmp_path: Path, kind: str):
    path = MAKERS[kind](tmp_path / f"source.{kind}", FILES, "a/b/")
    with pytest.raises(DataError, match="holds no Training/ and Testing/"):
        list(read_container(path))


def test_half_a_data_set_is_refused(tmp_path: Path):
    path = folder(tmp_path / "half", {"Training/no_tumor/image(1).jpg": b"one"})
    with pytest.raises(DataError, match="holds no Training/ and Testing/"):
        list(read_container(path))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize(
    "evil", ["../evil.jpg", "Training/../../evil.jpg", "/etc/evil.jpg", "C:\\evil.jpg", "..\\evil"]
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, kind: str, evil: str):
    path = MAKERS[kind](tmp_path / f"source.{kind}", FILES | {evil: b"evil"})
    with pytest.raises(DataError, match="leads out of its folder"):
        list(read_container(path))


@given(name=st.text("./\\ab:", min_size=1, max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_path_ever_leaves_its_folder(tmp_path: Path, name: str):
    path = tarred(tmp_path / "source.tar.gz", FILES | {f"Training/{name}": b"x", name: b"y"})
    try:
        inside = [file.path for file in read_container(path)]
    except DataError:
        return
    base = tmp_path.resolve()
    assert set(FILES) <= set(inside)
    assert all((base / file).resolve().is_relative_to(base) for file in inside)


def test_links_in_a_tar_are_passed_over(tmp_path: Path):
    path = tmp_path / "source.tar"
    with tarfile.open(tarred(path, FILES), "r:gz") as whole, tarfile.open(tmp_path / "links.tar", "w") as archive:
        for member in whole.getmembers():
            archive.addfile(member, whole.extractfile(member))
        link = tarfile.TarInfo("Training/no_tumor/passwd.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert {file.path for file in read_container(tmp_path / "links.tar")} == set(FILES)


def test_what_does_not_exist_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"absent\.zip does not exist"):
        list(read_container(tmp_path / "absent.zip"))


def test_a_file_that_is_no_archive_is_named(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not an archive")
    with pytest.raises(DataError, match=r"notes\.txt is neither a folder nor"):
        list(read_container(tmp_path / "notes.txt"))


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_cut_short_is_named(tmp_path: Path, kind: str):
    noise = {f"Training/no_tumor/image({n}).jpg": bytes((n * i * i) % 251 for i in range(4000)) for n in range(1, 20)}
    path = MAKERS[kind](tmp_path / f"source.{kind}", FILES | noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match="cut short"):
        [file.read() for file in read_container(path)]


def test_a_damaged_member_is_named(tmp_path: Path):
    path = zipped(tmp_path / "source.zip", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(b"gg (2).jpg") + 10] ^= 0xFF  # first byte of the member's data
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"source\.zip is damaged"):
        [file.read() for file in read_container(path)]
