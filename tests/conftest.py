"""What all tests share: an environment of their own. Nothing heavy is imported here."""

import os
import tempfile
from pathlib import Path

import pytest

from hscc import telemetry

# A developer's own servers, stores and data sources must not leak into a test.
for _name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "HSCC_DATA_SOURCE", "DVC_ROOT", "DVC_STAGE"):
    os.environ.pop(_name, None)

_home = tempfile.TemporaryDirectory(prefix="hscc-tests-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _home.name
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "180"  # read when prefect is imported
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "Agg")
telemetry.switch_off()


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without a run, to be copied to `mlflow.db`: making its tables takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
