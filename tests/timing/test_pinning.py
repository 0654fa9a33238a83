from __future__ import annotations

import os
from pathlib import Path

import pytest

from hscc.timing.pinning import choose_processors, core_of, pinned


@pytest.mark.parametrize(
    ("cores", "threads", "chosen"),
    [
        ({0: "a", 1: "a", 2: "b", 3: "b"}, 2, [0, 2]),
        ({0: "a", 1: "a", 2: "b", 3: "b"}, 3, [0, 1, 2]),
        ({0: "a", 1: "b", 2: "a", 3: "b"}, 2, [0, 1]),
        ({5: "a", 3: "b"}, 8, [3, 5]),
        ({4: "a"}, 2, [4]),
    ],
)
def test_no_two_share_a_core_before_every_core_has_one(cores: dict[int, str], threads: int, chosen: list[int]) -> None:
    assert choose_processors(cores, threads) == chosen


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot pin")
def test_the_process_is_pinned_for_a_while() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1) as chosen:
        assert os.sched_getaffinity(0) == set(chosen)
        assert len(chosen) == 1
    assert os.sched_getaffinity(0) == before


def test_a_system_that_cannot_pin_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned(2) as chosen:
        assert chosen == []


def test_the_core_is_told_by_its_siblings(tmp_path: Path) -> None:
    folder = tmp_path / "cpu3" / "topology"
    folder.mkdir(parents=True)
    (folder / "thread_siblings_list").write_text("1,3\n")
    assert core_of(3, tmp_path) == "1,3"
    assert core_of(4, tmp_path) == "4"
