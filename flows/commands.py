"""Run a stage's shell commands and pass on what they print, line by line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

_LAST_WORDS = 3  # lines of a failed command that its error repeats


class CommandError(Exception):
    """A stage's command failed; the message names the stage and repeats the command's last lines."""


def run_commands(commands: Sequence[str], folder: Path, address: str, say: Callable[[str], object]) -> None:
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
        Takes each line of standard output and standard error as it comes.

    Raises
    ------
    CommandError
        If a command ends with a status other than 0.
    """
    for command in commands:
        say(f"> {command}")
        status, last = _stream(command, folder, address, say)
        if status != 0:
            words = " / ".join(last) or "it printed nothing"
            raise CommandError(f"stage {address} failed with status {status}: {words}")


def _stream(command: str, folder: Path, address: str, say: Callable[[str], object]) -> tuple[int, Sequence[str]]:
    last: deque[str] = deque(maxlen=_LAST_WORDS)
    with subprocess.Popen(
        command,
        shell=True,
        cwd=folder,
        env=_environment(address),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # so that the shell and all it started can be ended together
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                text = line.rstrip()
                if text:
                    say(text)
                    last.append(text)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)  # an interrupted flow must not leave its command running
            raise
    return process.returncode, last


def _environment(address: str) -> dict[str, str]:
    # `python` of a command must be this interpreter even where the environment is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "DVC_STAGE": address}
