"""Run a stage's shell commands and pass on what they print, line by line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows import guard
from flows.lock import FlowLock
from hscc.pipeline.redaction import redactor

_MARK = "error: "
_LAST_WORDS = 3  # lines of a failed command that its error repeats
_SHELL_SIGNAL = 128  # a shell reports a command that signal n ended as 128 + n


class CommandError(Exception):
    """A stage's command failed; the message names the stage and repeats the command's last lines."""


def run_commands(
    commands: Sequence[str],
    folder: Path,
    address: str,
    say: Callable[[str], object],
    lock: FlowLock,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run shell commands one after another, stopping at the first that fails.

    Parameters
    ----------
    commands : Sequence[str]
        Shell commands.
    folder : Path
        Where they run.
    address : str
        The stage they belong to; they see it as ``DVC_STAGE``, as under ``dvc repro``.
    say : Callable[[str], object]
        Takes each line of standard output and standard error as it comes, secrets masked.
    lock : FlowLock
        Of the flow; when it ends, so do they.
    variables : Mapping[str, str], optional
        Further environment variables.

    Raises
    ------
    CommandError
        If a command ends with a status other than 0.
    """
    known = {**environment(), "PYTHONUNBUFFERED": "1", "DVC_STAGE": address, **(variables or {})}
    mask = redactor(known)  # what Prefect logs and shows as a state, others read

    def pass_on(line: str) -> str:
        shown = mask(line)
        say(shown)
        return shown

    for command in commands:
        pass_on(f"> {command}")
        status, last = _stream(command, folder, known, pass_on, lock)
        if status != 0:
            raise CommandError(f"stage {address} {_ending(status)}: {_last_words(last)}")


def _stream(
    command: str, folder: Path, variables: Mapping[str, str], pass_on: Callable[[str], str], lock: FlowLock
) -> tuple[int, Sequence[str]]:
    last: deque[str] = deque(maxlen=_LAST_WORDS)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, str(lock.path), lock.owner, command],
        cwd=folder,
        env=variables,
        stdin=subprocess.PIPE,  # its end tells the guard that this process is gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that Ctrl-C reaches the flow alone, which then ends its commands
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            for line in process.stdout:
                text = line.rstrip()
                if text:
                    last.append(pass_on(text))
        finally:
            process.stdin.close()
    return process.returncode, last


def _last_words(lines: Sequence[str]) -> str:
    if lines and lines[-1].startswith(_MARK):  # one of our own commands: its sentence says it all
        return lines[-1].removeprefix(_MARK)
    return " / ".join(lines) or "it printed nothing"


def _ending(status: int) -> str:
    number = -status if status < 0 else status - _SHELL_SIGNAL
    if number not in set(signal.Signals):
        return f"failed with status {status}"
    cause = ", by hand or for want of memory" if number == signal.SIGKILL else ""
    return f"was killed by {signal.Signals(number).name}{cause}; run again to take it up"


def environment() -> dict[str, str]:
    """Give this process's environment, in which `python` is its own interpreter though nothing was activated."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path}
