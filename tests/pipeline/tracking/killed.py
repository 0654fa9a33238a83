"""A job in a process of its own that kills itself by force."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import os, signal, sys
from pathlib import Path
from hscc.pipeline.tracking import stage_run
with stage_run({stage!r}, "k", {params!r}, workspace=Path(sys.argv[1]), resumable={resumable}) as run:
    run.metrics({{"loss": 2.0}}, step=0)
    print(run.run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_a_run(workspace: Path, params: dict[str, object], stage: str = "train", resumable: bool = True) -> str:
    """Run the job `k` of a stage until its first figure is recorded, and give its run's id."""
    program = _PROGRAM.format(stage=stage, params=params, resumable=resumable)
    command = [sys.executable, "-c", program, str(workspace)]
    killed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    return killed.stdout.strip()
