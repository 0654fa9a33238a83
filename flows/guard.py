"""Run a shell command, and end it when its flow has ended: ``python guard.py LOCK OWNER COMMAND``.

Stands between a flow and its command, because a flow killed with ``kill -9`` can no longer end anything. The flow has
ended when standard input is at its end (whoever started this process is gone) or when the lock names another owner
(the flow was cancelled, or a later one took over, perhaps on another machine). Needs nothing but the standard library.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

POLL = 0.5  # seconds between two looks at the lock
GRACE = 10.0  # seconds from SIGTERM to SIGKILL
ENDED = 143  # the shell's own status after SIGTERM


def main(lock: Path, owner: str, command: str) -> int:
    """Run the command to its end, or to the end of its flow.

    Parameters
    ----------
    lock : Path
        The lock file.
    owner : str
        The flow that the command belongs to.
    command : str
        Shell command; its group of processes is ended as a whole.

    Returns
    -------
    int
        The command's status, 128 + n after signal n, 143 if it was ended.
    """
    process = subprocess.Popen(command, shell=True, stdin=subprocess.DEVNULL, start_new_session=True)
    while True:
        try:
            status = process.wait(POLL)
        except subprocess.TimeoutExpired:
            if _flow_lives(lock, owner):
                continue
            _end(process)
            return ENDED
        return status if status >= 0 else 128 - status


def _flow_lives(lock: Path, owner: str) -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    if readable and not os.read(sys.stdin.fileno(), 1):
        return False
    try:
        return lock.read_text(encoding="utf-8") == owner
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):
        # The flow decides; the end of standard input says so. Not SIG_IGN: the command would inherit it, and be deaf.
        signal.signal(number, lambda *_: None)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
