import subprocess
from pathlib import Path

import pytest

from hscc.errors import DataError
from hscc.pipeline.provenance import data_hash, git_commit

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
    with pytest.raises(DataError, match=r"data\.dvc holds no outs\[0\]\.md5"):
        data_hash(tmp_path)


def test_git_commit_tells_dirty_code_from_fresh_results(tmp_path: Path) -> None:
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
