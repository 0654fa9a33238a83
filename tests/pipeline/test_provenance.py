import platform
import subprocess
from pathlib import Path

import pytest

from hscc.errors import DataError
from hscc.files import file_sha256
from hscc.pipeline.provenance import data_hash, git_commit, machine, processor_name, versions

HASH = "0123456789abcdef0123456789abcdef.dir"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_data_hash_is_read_from_the_pin(tmp_path: Path) -> None:
    assert data_hash(tmp_path) == "unknown"
    (tmp_path / "data.dvc").write_text(f"outs:\n- md5: {HASH}\n  path: data\n")
    assert data_hash(tmp_path) == HASH


@pytest.mark.parametrize("content", ["", "outs: []", "outs:\n- path: data\n", "a: [", "- 1"])
def test_a_damaged_pin_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "data.dvc").write_text(content)
    with pytest.raises(DataError, match=r"data\.dvc .*outs\[0\]\.md5.*git checkout"):
        data_hash(tmp_path)


def test_changed_code_is_dirty_and_new_results_are_not(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    git(tmp_path, "init", "--quiet")
    (tmp_path / "reports").mkdir()
    for name in ("code.py", "dvc.lock", "reports/results.csv"):
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("2")
    (tmp_path / "dvc.lock").write_text("2")
    (tmp_path / "reports/results.csv").write_text("2")
    assert git_commit(tmp_path) == commit
    (tmp_path / "code.py").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"
    assert git_commit(tmp_path / "reports") == f"{commit}-dirty"


def test_processor_is_read_from_the_table(tmp_path: Path) -> None:
    table = tmp_path / "cpuinfo"
    table.write_text("processor\t: 0\nmodel name\t: A Processor: fast\nmodel name\t: another\n")
    assert processor_name(table) == "A Processor: fast"
    assert processor_name(tmp_path / "absent") == ""


def test_machine_names_no_host_or_user() -> None:
    assert set(machine()) == {"processor", "cores", "system"}
    assert platform.node() not in " ".join(machine().values())


def test_versions_name_the_runtime() -> None:
    assert versions()["python"] == platform.python_version()
    assert versions()["onnxruntime"].count(".") == 2


def test_the_hash_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
