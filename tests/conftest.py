"""What all tests share: an environment of their own. Nothing heavy is imported here."""

import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from hscc.pipeline import telemetry

if TYPE_CHECKING:
    import torch
    from torch import nn
    from xdist.scheduler.protocol import Scheduling

    from hscc.calibration.collect import Calibration

# A developer's own servers, stores and data sources must not leak into a test.
for _name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "HSCC_DATA_SOURCE", "DVC_ROOT", "DVC_STAGE"):
    os.environ.pop(_name, None)

_home = tempfile.TemporaryDirectory(prefix="hscc-tests-", ignore_cleanup_errors=True)
os.environ["PREFECT_HOME"] = _home.name
os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"] = "900"  # read when prefect is imported
os.environ["PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED"] = "false"  # automations, of which there are none
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent / "startup"), os.environ.get("PYTHONPATH", "")])
os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # processes beside a server, of which no test asks anything
telemetry.switch_off()

# No property fails because a machine is busy.
hypothesis.settings.register_profile(
    "busy",
    hypothesis.settings.default,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("busy")

# What runs in one worker since it shares servers that take seconds to start, or the spectra of the tiny network's
# calibration; every other file is a group of its own.
_GROUPS = {
    "tests/budgets/test_latency_table.py": "tiny",
    "tests/budgets/test_resources.py": "tiny",
    "tests/test_plans.py": "tiny",
    "tests/test_storage.py": "tiny",
    "tests/flows/test_approval_deployed.py": "deployed",
    "tests/flows/test_deployment.py": "deployed",
    "tests/flows/test_faults.py": "deployed",
}
# Groups that take longest begin first, so that no worker is left with one of them at the end.
_FIRST = [
    "deployed",
    "flows",
    "tests/engine/test_kernels.py",
    "tiny",
    "tests/test_any_cnn.py",
    "tests/test_wheel.py",
]


def _group(nodeid: str) -> str:
    path = nodeid.partition("::")[0]
    return _GROUPS.get(path, "flows" if path.startswith("tests/flows/") else path)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Keep the garbage collector off the million objects that stay to the end: modules and tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000)
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests of a worker by `_FIRST`."""
    if hasattr(config, "workerinput"):
        rank = {group: number for number, group in enumerate(_FIRST)}
        items.sort(key=lambda item: rank.get(_group(item.nodeid), len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> "Scheduling | None":
    """With ``--dist loadscope`` give each worker one of the groups above at a time."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False  # by the number of tests, which says little about their time
    return ByGroup(config, log)


def made_once(name: str, make: Callable[[Path], object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that the first worker to ask for it fills, and the others take."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, whole = root / name, root / f"{name}.whole"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without a run, to be copied to `mlflow.db`: making its tables takes seconds."""

    def make(folder: Path) -> None:
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    return made_once("empty-store", make, tmp_path_factory) / "mlflow.db"


@pytest.fixture(scope="session")
def three_versions(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose registry holds three versions, the last of them challenger; to be left as it is.

    Version 1 and 2 err on 12 images as dense does, 3 on 40; each is another network. Registering them takes seconds: a
    test copies `mlflow.db`, which leads to the files of this workspace.
    """

    def make(workspace: Path) -> None:
        from hscc.pipeline.stages import register
        from tests.pipeline.registered import params, write_results

        shutil.copy(empty_store, workspace)
        for network, wrong in enumerate((12, 12, 40)):
            write_results(workspace, network=network, wrong=wrong)
            register.run(params(), workspace)

    return made_once("three-versions", make, tmp_path_factory)


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
