"""Prefect flows over the graph that DVC holds.

Prefect reads its settings from the environment on import, so the defaults of a run without any server are set here,
before any module of this package imports it. A variable that is already set wins.
"""

import os
from pathlib import Path

from hscc.pipeline import telemetry

DEFAULTS: dict[str, str] = {
    # Runs and logs of this workspace, beside it. A server named by PREFECT_API_URL keeps its own.
    "PREFECT_HOME": str(Path.cwd() / ".prefect"),
    # Without a server each process starts one of its own; on a busy machine that takes longer than Prefect's 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    # DVC is the only cache.
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",
}

telemetry.switch_off()
for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
