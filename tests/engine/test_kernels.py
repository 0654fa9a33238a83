"""Convolutions and linear layers of drawn shapes against plain loops in C++ under sanitizers and by instruction set."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.engine.builds import kernels, kernels_for_races

CASES = 50


def instruction_sets() -> list[str]:
    """Name those that this machine runs."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return ["portable"]
    narrow, wide = {"avx2", "fma"}, {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}
    needs: dict[str, set[str]] = {
        "portable": set(),
        "avx2": narrow,
        "avx512": wide,
        "avx512vnni": wide | {"avx512_vnni"},
    }
    return [name for name, needed in needs.items() if needed <= set(flags)]


def run(program: Path, seed: int, cases: int = CASES, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(seed), str(cases)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


@cache
def answer_of(instructions: str) -> subprocess.CompletedProcess[str]:
    return run(kernels(), 0, HSCC_ENGINE_ISA=instructions)


@pytest.mark.parametrize("instructions", instruction_sets())
def test_agree_with_plain_loops_and_stay_inside_their_memory(instructions: str) -> None:
    answer = answer_of(instructions)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.startswith(f"{instructions}:")


def test_int8_gives_the_same_on_all_instruction_sets() -> None:
    answers = [answer_of(instructions) for instructions in instruction_sets()]
    assert len({answer.stdout.partition("checksum")[2] for answer in answers}) == 1, answers
    assert all("checksum" in answer.stdout for answer in answers), answers


def test_threads_do_not_race() -> None:
    answer = run(kernels_for_races(), 1000, cases=60, TSAN_OPTIONS="halt_on_error=1")
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_an_instruction_set_that_does_not_exist_is_named() -> None:
    answer = run(kernels(), 0, HSCC_ENGINE_ISA="sse1")
    assert answer.returncode != 0
    assert "HSCC_ENGINE_ISA" in answer.stdout + answer.stderr
