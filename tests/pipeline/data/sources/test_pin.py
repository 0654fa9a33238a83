from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from dvc_data.hashfile.tree import Tree
from hypothesis import given
from hypothesis import strategies as st

from hscc.errors import DataError
from hscc.pipeline.data.sources import pin as hashing
from hscc.pipeline.data.sources.pin import (
    check_pin,
    compare,
    directory_hash,
    hash_files,
    md5_of,
    public_files,
    read_pin,
)

REAL = "440a20f27877ad996e95c9e6d1d13da5.dir"
REPOSITORY = Path(__file__).parents[4]
hexes = st.text("0123456789abcdef", min_size=32, max_size=32)
names = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=8)
relative = st.lists(names, min_size=1, max_size=3).map("/".join)


def put(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def write_pin(workspace: Path, files: dict[str, str], listing: bool = True) -> Path:
    """Write what ``dvc add data`` writes: the pin, and the listing into DVC's cache."""
    digest = directory_hash(files)
    pin = workspace / "data.dvc"
    pin.write_text(f"outs:\n- md5: {digest}\n  size: 1\n  nfiles: {len(files)}\n  hash: md5\n  path: data\n")
    if listing:
        tree = Tree.from_list([{"md5": md5, "relpath": path} for path, md5 in files.items()], hash_name="md5")
        cached = workspace / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(tree.as_bytes())
    return pin


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    put(tmp_path / "data", {"Training/a/1.jpg": b"one", "Training/a/2.jpg": b"two", "Testing/a/1.jpg": b"three"})
    write_pin(tmp_path, hash_files(tmp_path / "data"))
    return tmp_path


def git(workspace: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=workspace, check=True, capture_output=True)


@given(files=st.dictionaries(relative, hexes, max_size=6))
def test_directory_hash_is_dvcs_own(files: dict[str, str]):
    tree = Tree.from_list([{"md5": md5, "relpath": path} for path, md5 in files.items()], hash_name="md5")
    tree.digest()
    assert directory_hash(files) == tree.oid


def test_the_public_listing_is_the_pinned_data_set():
    files = public_files()
    assert directory_hash(files) == REAL
    assert len(files) == 3264
    assert {path.split("/")[0] for path in files} == {"Training", "Testing"}


def test_the_repository_pins_the_public_data_set():
    pin = read_pin(REPOSITORY / "data.dvc")
    assert (pin.hash, pin.files) == (REAL, 3264)


def test_hash_files_reads_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(tmp_path / "data", {"a.jpg": b"one", "b/c.jpg": b"two"})
    cache = tmp_path / "cache" / "md5.json"
    first = hash_files(tmp_path / "data", cache)
    assert first == {"a.jpg": md5_of(b"one"), "b/c.jpg": md5_of(b"two")}
    read: list[bytes] = []
    monkeypatch.setattr(hashing, "md5_of", lambda content: read.append(content) or md5_of(content))
    assert hash_files(tmp_path / "data", cache) == first
    assert read == []
    (tmp_path / "data/a.jpg").write_bytes(b"ONE")
    os.utime(tmp_path / "data/a.jpg", ns=(0, 12345))
    assert hash_files(tmp_path / "data", cache)["a.jpg"] == md5_of(b"ONE")
    assert read == [b"ONE"]


@pytest.mark.parametrize("damaged", ["", "[]", '{"a.jpg": 1}', '{"a.jpg": [1, 2, 3]}', "null"])
def test_a_damaged_cache_is_ignored(tmp_path: Path, damaged: str):
    put(tmp_path / "data", {"a.jpg": b"one"})
    (tmp_path / "cache").write_text(damaged)
    assert hash_files(tmp_path / "data", tmp_path / "cache") == {"a.jpg": md5_of(b"one")}


def test_a_folder_that_is_absent_has_no_files(tmp_path: Path):
    assert hash_files(tmp_path / "absent") == {}


def test_pinned_files_differ_in_nothing(workspace: Path):
    difference = compare(hash_files(workspace / "data"), read_pin(workspace / "data.dvc"))
    assert difference.clean
    assert str(difference) == "none"


def test_a_difference_names_what_is_missing_changed_and_extra(workspace: Path):
    (workspace / "data/Training/a/1.jpg").unlink()
    put(workspace / "data", {"Training/a/2.jpg": b"TWO", "Testing/new.jpg": b"new"})
    difference = compare(hash_files(workspace / "data"), read_pin(workspace / "data.dvc"))
    assert not difference.clean
    assert difference.missing == ("Training/a/1.jpg",)
    assert difference.changed == ("Training/a/2.jpg",)
    assert difference.extra == ("Testing/new.jpg",)
    assert str(difference) == "1 missing (Training/a/1.jpg), 1 changed (Training/a/2.jpg), 1 extra (Testing/new.jpg)"


def test_only_the_first_names_are_listed(workspace: Path):
    put(workspace / "data", {f"Testing/{n}.jpg": b"x" for n in range(9)})
    assert str(compare(hash_files(workspace / "data"), read_pin(workspace / "data.dvc"))) == (
        "9 extra (Testing/0.jpg, Testing/1.jpg, Testing/2.jpg and 6 more)"
    )


def test_without_a_listing_the_hashes_are_named(tmp_path: Path):
    write_pin(tmp_path, {"a.jpg": md5_of(b"one")}, listing=False)
    put(tmp_path / "data", {"a.jpg": b"two", "b.jpg": b"two"})
    difference = compare(hash_files(tmp_path / "data"), read_pin(tmp_path / "data.dvc"))
    assert (difference.missing, difference.changed, difference.extra) == ((), (), ())
    assert str(difference) == f"2 files with hash {difference.found} where 1 are pinned"


@pytest.mark.parametrize("text", ["", "outs: []", "outs:\n- path: data", "[1", "outs:\n- md5: 0123\n  path: data"])
def test_a_file_that_is_no_pin_is_named(tmp_path: Path, text: str):
    (tmp_path / "data.dvc").write_text(text)
    with pytest.raises(DataError, match=r"data\.dvc pins .*git checkout data\.dvc"):
        read_pin(tmp_path / "data.dvc")


def test_an_absent_pin_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"data\.dvc is not here"):
        read_pin(tmp_path / "data.dvc")


def test_check_pin_passes_what_is_pinned_and_what_pins_nothing(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory
):
    check_pin(workspace)
    assert (workspace / ".hscc/md5.json").is_file()
    check_pin(tmp_path_factory.mktemp("unpinned"))


def test_check_pin_stops_on_a_change(workspace: Path):
    (workspace / "data/Training/a/1.jpg").unlink()
    with pytest.raises(DataError, match=r"1 missing \(Training/a/1\.jpg\).*hscc fetch"):
        check_pin(workspace)
    put(workspace / "data", {"Training/a/1.jpg": b"one", "Training/a/3.jpg": b"new"})
    with pytest.raises(DataError, match=r"1 extra \(Training/a/3\.jpg\)"):
        check_pin(workspace)


def test_check_pin_stops_on_a_missing_folder(workspace: Path):
    (workspace / "data").rename(workspace / "aside")
    with pytest.raises(DataError, match=r"data does not exist.*hscc fetch"):
        check_pin(workspace)


def test_check_pin_stops_when_dvc_rewrote_the_pin(workspace: Path):
    git(workspace, "init", "-q")
    git(workspace, "add", "data.dvc")
    git(workspace, "commit", "-qm", "pin")
    check_pin(workspace)
    put(workspace / "data", {"Testing/new.jpg": b"new"})
    write_pin(workspace, hash_files(workspace / "data"))  # as dvc repro does
    with pytest.raises(DataError, match=r"data\.dvc was rewritten .* 1 extra \(Testing/new\.jpg\); run 'git checkout"):
        check_pin(workspace)
    git(workspace, "commit", "-qam", "meant")
    check_pin(workspace)
