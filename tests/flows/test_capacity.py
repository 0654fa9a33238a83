from pathlib import Path

import pytest

from flows.capacity import available_memory, cores, default_workers


@pytest.mark.parametrize(
    ("need", "machine_cores", "available", "workers"),
    [(2.0, 8, 64.0, 8), (3.0, 8, 10.0, 3), (3.0, 1, 64.0, 1), (16.0, 8, 10.0, 1)],
)
def test_a_core_and_memory_each(need: float, machine_cores: int, available: float, workers: int) -> None:
    assert default_workers(need, machine_cores, available) == workers


def test_a_container_limits_the_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("1048576\n")
    (tmp_path / "memory.max").write_text("68157440\n")
    assert available_memory(tmp_path) == pytest.approx(64 / 1024)
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 64 / 1024


def test_this_machine_has_some_of_both(tmp_path: Path) -> None:
    assert cores() >= 1
    assert available_memory(tmp_path / "none") > 0
