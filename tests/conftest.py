"""What all tests share: an environment of their own. Nothing heavy is imported here."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hscc.pipeline import telemetry

if TYPE_CHECKING:
    import torch
    from torch import nn

    from hscc.calibration.collect import Calibration

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


@pytest.fixture(scope="session")
def three_versions(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose registry holds three versions, the last of them challenger; to be left as it is.

    Version 1 and 2 err on 12 images as dense does, 3 on 40; each is another network. Registering them takes seconds: a
    test copies `mlflow.db`, which leads to the files of this workspace.
    """
    from hscc.pipeline.stages import register
    from tests.pipeline.registered import params, write_results

    workspace = tmp_path_factory.mktemp("three-versions")
    shutil.copy(empty_store, workspace)
    for network, wrong in enumerate((12, 12, 40)):
        write_results(workspace, network=network, wrong=wrong)
        register.run(params(), workspace)
    return workspace


@pytest.fixture(scope="session")
def network() -> "nn.Module":
    """The tiny network of `tests.tiny`."""
    from tests.tiny import tiny_network

    return tiny_network()


@pytest.fixture(scope="session")
def images() -> "torch.Tensor":
    """Its images."""
    from tests.tiny import tiny_images

    return tiny_images()


@pytest.fixture(scope="session")
def calibration(network: "nn.Module", images: "torch.Tensor") -> "Calibration":
    """Its calibration."""
    from hscc.calibration.collect import calibrate

    return calibrate(network, images.split(16), cells=4)
