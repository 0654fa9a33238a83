from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from hscc.pipeline.commands import doctor
from hscc.pipeline.commands.doctor import NOTE, OK, WRONG, Check
from hscc.pipeline.tracking import stage_run

ROOT = Path(__file__).parents[3]


def installed(monkeypatch: pytest.MonkeyPatch, *asked: str) -> str:
    """Give what is said of the packages where hscc asks for these."""
    monkeypatch.setattr(doctor, "requires", lambda name: list(asked))
    return doctor._packages().text


def test_a_package_in_another_version_or_none_is_told_with_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = version("packaging")
    told = installed(
        monkeypatch, "packaging==0.1", "hscc-no-such-package>=1", "pip>=1", "hscc-nor-this; extra == 'dev'"
    )
    assert told == f"packaging is {found}, ==0.1 is asked for; hscc-no-such-package is missing; make setup"
    assert installed(monkeypatch, f"packaging=={found}", "pip") == "all there, in the versions asked for"


def test_a_checkout_that_was_never_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", nothing)
    assert doctor._packages() == Check("packages", WRONG, "hscc is not installed; make setup")


@pytest.fixture
def healthy(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(empty_store, tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / ".dvc").mkdir()
    monkeypatch.setattr(doctor, "_misfits", lambda: iter(()))
    return tmp_path


def states(workspace: Path) -> dict[str, str]:
    return {check.name: check.state for check in doctor.run(workspace)}


def text(workspace: Path, name: str) -> str:
    (found,) = [check.text for check in doctor.run(workspace) if check.name == name]
    return found


def test_a_healthy_installation_has_nothing_wrong(healthy: Path) -> None:
    found = states(healthy)
    assert WRONG not in found.values()
    assert (found["data"], found["MLflow"], found["backlog"]) == (NOTE, OK, OK)


def test_each_fault_is_told_with_its_mend(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://u:hunter2@127.0.0.1:1")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr(doctor, "_misfits", lambda: iter(["onnx is 1.0, ==1.23.2 is asked for"]))
    (healthy / "params.yaml").write_text("data: 3")
    (healthy / "dvc.yaml").unlink()
    found = states(healthy)
    assert {name for name, state in found.items() if state == WRONG} == {
        "packages", "workspace", "params.yaml", "MLflow", "Prefect"
    }  # fmt: skip
    assert "make setup" in text(healthy, "packages")
    assert "hunter2" not in text(healthy, "MLflow")


def test_runs_that_wait_are_told(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with stage_run("train", "a", {}, workspace=healthy):
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert states(healthy)["backlog"] == NOTE
    assert "hscc track" in text(healthy, "backlog")


def test_a_full_disk_is_told(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_FREE", 1e18)
    assert states(healthy)["disk"] == WRONG
