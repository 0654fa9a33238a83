import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.commands import CommandError, run_commands


def test_every_line_is_passed_on_as_it_comes(tmp_path: Path) -> None:
    said: list[tuple[float, str]] = []
    command = "echo one; sleep 0.6; echo two >&2; pwd; echo $DVC_STAGE"
    run_commands([command], tmp_path, "sweep@x-3", lambda line: said.append((time.monotonic(), line)))
    lines = [line for _, line in said]
    assert lines == [f"> {command}", "one", "two", str(tmp_path), "sweep@x-3"]
    assert said[2][0] - said[1][0] > 0.3


def test_python_is_this_interpreter(tmp_path: Path) -> None:
    said: list[str] = []
    run_commands(["python -c 'import sys; print(sys.prefix)'"], tmp_path, "a", said.append)
    assert said[-1] == sys.prefix


def test_a_failure_stops_the_commands_and_repeats_the_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(CommandError, match=r"^stage last failed with status 7: 2 / 3 / 4$"):
        run_commands(["seq 4; exit 7", "echo never"], tmp_path, "last", said.append)
    assert "never" not in said


def test_a_silent_failure_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="it printed nothing"):
        run_commands(["exit 1"], tmp_path, "a", lambda line: None)


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path: Path) -> None:
    said: list[str] = []
    run_commands([r"printf '\377\n'"], tmp_path, "a", said.append)
    assert said[-1] == "\N{REPLACEMENT CHARACTER}"


def test_an_interruption_ends_the_command_and_its_children(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.isdigit():
            (tmp_path / "pid").write_text(line)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_commands(["sleep 60 & echo $!; wait"], tmp_path, "a", interrupt)
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    # An orphan that nobody reaps stays as a zombie: it is ended all the same.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip().startswith("Z") and state.strip() != ""
