"""A disk that fills up while a flow hands outputs to DVC: a small tmpfs, where this machine lets a test mount one."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.exceptions import DvcException

from flows.full_disk import WholeFiles, one_sentence
from flows.pipeline import main
from hscc.errors import HSCCError
from tests.in_process import dvc
from tests.pipeline.stages.test_full_disk import mount

from .conftest import times_run
from .test_pipeline import CLEAN, ONCE

BIG = 12  # MB of one cell: once it fits, twice it does not
FULL = OSError(errno.ENOSPC, "No space left on device")


def fail(*_: object) -> None:
    raise FULL


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text("all records")
    lock.chmod(0o640)
    (tmp_path / "link").symlink_to(lock)
    files = WholeFiles()
    with pytest.raises(OSError, match="No space left"), files.open(str(lock), "w+", encoding="utf-8") as file:
        file.write("half")
        fail()
    assert lock.read_text() == "all records"
    with files.open(str(tmp_path / "link"), "w", encoding="utf-8") as file:
        file.write("more records")
    assert lock.read_text() == "more records"
    assert lock.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dvc.lock", "link"]


def test_a_copy_that_dvc_passes_over_is_heeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "output").write_text("a")
    monkeypatch.setattr("dvc_objects.fs.local.copyfile", fail)
    files = WholeFiles()
    with pytest.raises(OSError, match="No space left"), files.raising_failed_copies(), contextlib.suppress(OSError):
        files.put_file(str(tmp_path / "output"), str(tmp_path / "cache/object"))
    with pytest.raises(OSError, match="No space left"), files.raising_failed_copies():
        with contextlib.suppress(OSError):
            files.put_file(str(tmp_path / "output"), str(tmp_path / "cache/object"))
        raise DvcException("what came of it")
    assert list((tmp_path / "cache").iterdir()) == []
    with files.raising_failed_copies():
        pass  # an earlier failure is forgotten


@pytest.mark.parametrize("cause", [FULL, OSError(errno.EDQUOT, "quota"), sqlite3.OperationalError("disk is full")])
def test_a_full_disk_is_one_sentence_however_deep_it_lies(cause: Exception, tmp_path: Path) -> None:
    said = rf"^the disk that holds {tmp_path} is full; free some space and run again\.$"
    with pytest.raises(HSCCError, match=said), one_sentence(tmp_path):
        raise DvcException("cannot write") from cause


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), ValueError("no"), HSCCError("no")])
def test_other_errors_pass(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error), match="no"), one_sentence(tmp_path), WholeFiles().raising_failed_copies():
        raise error from error


@pytest.fixture
def small(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The small graph on a disk of 20 MB; its first cell is big and done at once, the others take seconds."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount(disk, "size=20m"):
        pytest.skip("this machine lets nobody mount a tmpfs here")
    folder = disk / "workspace"
    try:
        subprocess.run(["cp", "-R", str(template), str(folder)], check=True)
        graph = folder / "dvc.yaml"
        cell = f"test ${{item.method}}-${{item.budget}} = x-3 && yes | head -c {BIG}M > cells/x-3.txt || sleep 4"
        text = graph.read_text().replace("- mkdir -p cells\n", f"- mkdir -p cells\n      - {cell}\n")
        graph.write_text(text.replace("cat first.txt > cells/", "cat first.txt >> cells/"))
        monkeypatch.chdir(folder)
        yield folder
    finally:
        monkeypatch.chdir(tmp_path)
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_stage_that_dvc_has_no_room_for_fails_alone_and_is_taken_up(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(small, max_workers=4)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"error: stage sweep@x-3: the disk that holds {small} is full; free some space and run again.; not begun: last"
    )
    siblings = {"first": 1, "x-3": 1, "x-6.5": 1, "y-3": 1, "y-6.5": 1}
    assert times_run(small) == siblings  # begun before the disk was full, and not killed
    lock = (small / "dvc.lock").read_text()
    assert all(f"sweep@{name}:" in lock for name in ("x-6.5", "y-3", "y-6.5"))
    assert mount(small.parent, "remount,size=128m")
    main(small, max_workers=4)
    assert times_run(small) == {**ONCE, "x-3": 2}
    assert dvc(small, "status") == CLEAN
