"""Usage reporting of the tools underneath: off unless the user has set the variable."""

from __future__ import annotations

import os

OFF: dict[str, str] = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


def switch_off() -> None:
    """Set every variable of :data:`OFF` that is not set yet.

    The tools read them on import, so this comes before importing any of them. Child processes inherit them.
    """
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
