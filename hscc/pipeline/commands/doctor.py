"""Check an installation and a workspace, and say what is missing and how to fix it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from hscc.errors import HSCCError
from hscc.pipeline import layout
from hscc.pipeline.params import read_params
from hscc.pipeline.redaction import redact
from hscc.pipeline.tracking import StoreDown, open_client, shown_uri
from hscc.pipeline.tracking.journal import count_waiting

OK, NOTE, WRONG = "ok", "note", "wrong"

_LEAST_FREE = 3e9  # bytes: a run's artifacts and checkpoints
_PYTHON = ((3, 11), (3, 14))  # the bounds of the extra pipeline in pyproject.toml
_TIMEOUT = 3.0  # seconds for a server to answer


@dataclass(frozen=True)
class Check:
    """What was checked, its state (``ok``, ``note`` or ``wrong``), and what was found or is to be done."""

    name: str
    state: str
    text: str


def run(workspace: Path = Path(".")) -> list[Check]:
    """Check everything the pipeline needs.

    The checks are in the order in which they depend on each other; none changes anything but an empty MLflow store.
    """
    return [
        _python(),
        _packages(),
        _torch(),
        _onnx(),
        *(_program(name) for name in ("git", "dvc", "mlflow", "prefect")),
        _disk(workspace),
        _workspace(workspace),
        _params(workspace),
        _data(workspace),
        _tracking(workspace),
        _backlog(workspace),
        _prefect(),
    ]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if _PYTHON[0] <= sys.version_info[:2] <= _PYTHON[1]:
        return Check("Python", OK, found)
    return Check("Python", WRONG, f"{found}, 3.11 to 3.14 is needed; make setup PYTHON=python3.11")


def _packages() -> Check:
    wrong = list(_wrong_packages())
    if not wrong:
        return Check("packages", OK, "all installed, in the required versions")
    return Check("packages", WRONG, f"{'; '.join(wrong)}; make setup")


def _wrong_packages() -> Iterator[str]:
    try:
        required = [Requirement(text) for text in requires("hscc") or []]
    except PackageNotFoundError:
        yield "hscc is not installed"
        return
    for requirement in required:
        extras = ("", "onnx", "pipeline")
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        if requirement.name == "hscc":  # its extra onnx, within pipeline
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is missing"
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield f"{requirement.name} is {found}, {requirement.specifier} is required"


def _torch() -> Check:
    try:
        import torch

        from hscc.networks.backbones import pick_device

        return Check("PyTorch", OK, f"{torch.__version__}, {torch.get_num_threads()} threads, device {pick_device()}")
    except (ImportError, OSError, RuntimeError) as error:
        return Check("PyTorch", WRONG, f"cannot be imported ({_first_line(error)}); make setup")


def _onnx() -> Check:
    try:
        import onnxruntime

        return Check(
            "ONNX Runtime", OK, f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}"
        )
    except (ImportError, OSError) as error:
        return Check("ONNX Runtime", WRONG, f"cannot be imported ({_first_line(error)}); make setup")


def _program(name: str) -> Check:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    if shutil.which(name, path=path):
        return Check(name, OK, "found")
    fix = "install git" if name == "git" else "make setup"
    return Check(name, WRONG, f"is not on the PATH; {fix}")


def _disk(workspace: Path) -> Check:
    free = shutil.disk_usage(workspace).free
    text = f"{free / 1e9:.1f} GB free"
    return Check("disk", OK, text) if free >= _LEAST_FREE else Check("disk", WRONG, f"{text}, a run needs 3; free some")


def _workspace(workspace: Path) -> Check:
    if not (workspace / "dvc.yaml").is_file():
        return Check("workspace", WRONG, f"{workspace} holds no dvc.yaml; run in the repository, or name it with -w")
    if not (workspace / ".dvc").is_dir():
        return Check("workspace", WRONG, f"{workspace} is no DVC repository; clone it with git, or run `dvc init`")
    try:
        with tempfile.TemporaryFile(dir=workspace):
            return Check("workspace", OK, "a DVC repository that can be written")
    except OSError as error:
        return Check("workspace", WRONG, f"{workspace} cannot be written ({error.strerror}); correct its permissions")


def _params(workspace: Path) -> Check:
    try:
        read_params(workspace / layout.PARAMS)
    except HSCCError as error:
        return Check("params.yaml", WRONG, str(error))
    return Check("params.yaml", OK, "valid")


def _data(workspace: Path) -> Check:
    pin = workspace / layout.DATA.with_suffix(".dvc")
    if not pin.is_file():
        return Check("data", NOTE, f"{pin.name} is not there; `dvc add data` pins a data set")
    if not (workspace / layout.DATA).is_dir():
        return Check("data", NOTE, "not fetched yet; `hscc fetch` brings it, `make demo` needs none")
    return Check("data", OK, "found; `hscc check` compares it with its pin")


def _tracking(workspace: Path) -> Check:
    try:
        open_client(workspace)
    except StoreDown as error:
        return Check(
            "MLflow", WRONG, f"{shown_uri(workspace)} does not answer ({error}); start it or unset its address"
        )
    except HSCCError as error:
        return Check("MLflow", WRONG, str(error))
    return Check("MLflow", OK, f"{shown_uri(workspace)} answers")


def _backlog(workspace: Path) -> Check:
    waiting = count_waiting(workspace)
    if waiting:
        return Check("backlog", NOTE, f"{waiting} runs are under way or wait for MLflow; `hscc track` sends what waits")
    return Check("backlog", OK, "nothing waits for MLflow")


def _prefect() -> Check:
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        return Check("Prefect", OK, "no server set; each flow starts its own (schedules need `make server`)")
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), _TIMEOUT).close()
    except OSError as error:
        return Check(
            "Prefect", WRONG, f"{redact(address)} does not answer ({error}); start it or unset PREFECT_API_URL"
        )
    return Check("Prefect", OK, f"{redact(address)} answers")


def _first_line(error: Exception) -> str:
    return re.sub(r"\s+", " ", str(error))[:160]
