"""Files and folders are replaced whole or not at all."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from hscc.files import move_into_place, replace_text, replacing

HSCC = Path(__file__).parents[1] / "hscc"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path, shared: bool) -> None:
    target = tmp_path / "made" / "a.txt"
    for text in ("first", "sécond"):
        replace_text(target, text, shared=shared)
        assert target.read_bytes() == text.encode()
    assert _names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_folder_is_replaced_as_a_whole(tmp_path: Path, shared: bool) -> None:
    target = tmp_path / "cell"
    for name in ("old", "new"):
        with replacing(target, shared=shared) as made:
            made.mkdir()
            (made / name).touch()
    assert _names(tmp_path) == ["cell"] and _names(target) == ["new"]


@pytest.mark.parametrize("shared", [False, True])
def test_what_fails_leaves_the_target_as_it_was(tmp_path: Path, shared: bool) -> None:
    replace_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a", shared=shared) as new:
        new.write_text("half")
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a", shared=shared):
        pass  # nothing was written
    assert (tmp_path / "a").read_text() == "old" and _names(tmp_path) == ["a"]


def test_a_folder_of_which_no_new_one_was_made_stays(tmp_path: Path) -> None:
    (tmp_path / "cell").mkdir()
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "cell"):
        pass
    assert _names(tmp_path) == ["cell"]


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as new:
        leftover = new.parent
        new.touch()
    leftover.mkdir()
    (leftover / "half").touch()
    replace_text(tmp_path / "a", "whole")
    assert _names(tmp_path) == ["a"]


def test_writers_at_the_same_time_do_not_meet(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def write(number: int) -> None:
        with replacing(tmp_path / "a", shared=True) as new:
            new.write_text(str(number) * 1000)
            together.wait(10)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set((tmp_path / "a").read_text())) == 1 and _names(tmp_path) == ["a"]


def test_a_finished_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    move_into_place(tmp_path / "new", tmp_path / "old")
    assert _names(tmp_path) == ["old"] and _names(tmp_path / "old") == ["new"]


def test_no_other_module_replaces_files_by_itself() -> None:
    own = [
        path.relative_to(HSCC).as_posix()
        for path in [*HSCC.rglob("*.py"), *(HSCC.parent / "flows").rglob("*.py")]
        if re.search(r"os\.replace\(", path.read_text(encoding="utf-8"))
    ]
    assert own == ["files.py"]
