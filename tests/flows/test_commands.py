import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.commands import CommandError, run_commands
from flows.lock import FlowLock, hold

WAIT = 900  # seconds until something that must happen is given up on


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[FlowLock]:
    with hold(tmp_path, "a test") as held:
        yield held


def test_every_line_is_passed_on_as_it_comes(lock: FlowLock, tmp_path: Path) -> None:
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        if line == "one":
            (tmp_path / "heard").touch()

    command = "echo one; while ! test -e heard; do sleep 0.05; done; echo two >&2; pwd; echo $DVC_STAGE"
    run_commands([command], tmp_path, "sweep@x-3", hear, lock)
    assert said == [f"> {command}", "one", "two", str(tmp_path), "sweep@x-3"]


def test_python_is_this_interpreter(lock: FlowLock, tmp_path: Path) -> None:
    said: list[str] = []
    run_commands(["python -c 'import sys; print(sys.prefix)'"], tmp_path, "a", said.append, lock)
    assert said[-1] == sys.prefix


def test_a_failure_stops_the_commands_and_repeats_the_last_words(lock: FlowLock, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(CommandError, match=r"^stage last failed with status 7: 2 / 3 / 4$"):
        run_commands(["seq 4; exit 7", "echo never"], tmp_path, "last", said.append, lock)
    assert "never" not in said


def test_an_error_of_a_verb_is_all_that_is_repeated(lock: FlowLock, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"^stage a failed with status 1: fix it\.$"):
        run_commands(["echo one; echo error: fix it. >&2; exit 1"], tmp_path, "a", lambda line: None, lock)


def test_a_silent_failure_says_so(lock: FlowLock, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="it printed nothing"):
        run_commands(["exit 1"], tmp_path, "a", lambda line: None, lock)


def test_bytes_that_are_no_text_do_not_stop_it(lock: FlowLock, tmp_path: Path) -> None:
    said: list[str] = []
    run_commands([r"printf '\377\n'"], tmp_path, "a", said.append, lock)
    assert said[-1] == "\N{REPLACEMENT CHARACTER}"


def test_variables_reach_the_command(lock: FlowLock, tmp_path: Path) -> None:
    said: list[str] = []
    run_commands(["echo $COLOUR"], tmp_path, "a", said.append, lock, {"COLOUR": "blue"})
    assert said[-1] == "blue"


def test_secrets_reach_neither_the_log_nor_the_error(
    lock: FlowLock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X_TOKEN", "abcdef123")
    said: list[str] = []
    variables = {"OTHER_PASSWORD": "ghijkl456"}  # the command's alone, not this process's
    command = "echo postgresql://u:pw@h/db is down; echo $X_TOKEN >&2; echo error: $OTHER_PASSWORD; exit 1 # abcdef123"
    with pytest.raises(CommandError) as raised:
        run_commands([command], tmp_path, "a", said.append, lock, variables)
    assert said[1:] == ["postgresql://***@h/db is down", "***", "error: ***"]
    assert str(raised.value) == "stage a failed with status 1: ***"
    assert not any(secret in "".join(said) for secret in ("u:pw", "abcdef123", "ghijkl456"))


def test_a_killed_command_says_by_what(lock: FlowLock, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"^stage a was killed by SIGKILL, by hand or for want of memory; run again"):
        run_commands(["kill -9 $$"], tmp_path, "a", lambda line: None, lock)


def test_an_interruption_ends_the_command_and_its_children(lock: FlowLock, tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        if line.isdigit():
            (tmp_path / "pid").write_text(line)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_commands(["sleep 900 & echo $!; wait"], tmp_path, "a", interrupt, lock)
    assert ends(int((tmp_path / "pid").read_text()))


def test_the_end_of_the_lease_ends_the_command(tmp_path: Path) -> None:
    with hold(tmp_path, "a test") as lock, pytest.raises(CommandError, match="killed by SIGTERM"):
        run_commands(["echo begun; sleep 900"], tmp_path, "a", lambda line: line == "begun" and lock.end(), lock)


def test_a_command_may_tidy_up_when_it_is_asked_to_end(tmp_path: Path) -> None:
    command = "trap 'echo tidy > tidied; exit' TERM; echo begun; while true; do sleep 0.1; done"
    with hold(tmp_path, "a test") as lock, pytest.raises(CommandError):
        run_commands([command], tmp_path, "a", lambda line: line == "begun" and lock.end(), lock)
    assert (tmp_path / "tidied").read_text() == "tidy\n"


def test_a_command_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from flows import guard
guard.GRACE = 0.5
print(guard.main(Path(sys.argv[1]) / "no lock", "a", "trap '' TERM; echo begun; while true; do sleep 0.1; done"))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=True)
    assert done.stdout.split() == ["begun", "143"]


def test_commands_of_a_killed_flow_end(tmp_path: Path) -> None:
    """kill -9 of the flow: nobody is left to end its commands but their guard."""
    code = """
import sys
from pathlib import Path
from flows.commands import run_commands
from flows.lock import hold
folder = Path(sys.argv[1])
with hold(folder, "a flow") as lock:
    run_commands(["echo $$ > pid; sleep 900"], folder, "a", print, lock)
"""
    flow = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + WAIT
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    flow.kill()
    flow.wait()
    assert ends(int((tmp_path / "pid").read_text()))
    with hold(tmp_path, "the next flow") as lock:
        assert "the next flow" in lock.path.read_text()


def ends(pid: int) -> bool:
    deadline = time.monotonic() + WAIT
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    # An orphan that nobody reaps stays as a zombie: it is ended all the same.
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip().startswith("Z") and state.strip() != ""
