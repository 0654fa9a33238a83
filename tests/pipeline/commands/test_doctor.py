from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from hscc.pipeline.commands import doctor
from hscc.pipeline.commands.doctor import NOTE, OK, WRONG
from hscc.pipeline.tracking import stage_run

ROOT = Path(__file__).parents[3]


def wrong(monkeypatch: pytest.MonkeyPatch, *required: str) -> Iterator[str]:
    """What is wrong with the packages where hscc requires these."""
    monkeypatch.setattr(doctor, "requires", lambda name: list(required))
    return doctor._wrong_packages()


def test_missing_and_wrong_packages_are_named_with_the_required_version(monkeypatch: pytest.MonkeyPatch) -> None:
    found = version("packaging")
    requirements = ("packaging==0.1", "hscc-no-such-package>=1", "pip>=1", "hscc-nor-this; extra == 'dev'")
    assert list(wrong(monkeypatch, *requirements)) == [
        f"packaging is {found}, ==0.1 is required",
        "hscc-no-such-package is missing",
    ]
    assert list(wrong(monkeypatch, f"packaging=={found}", "pip")) == []


def test_a_checkout_that_was_never_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", nothing)
    assert doctor._packages().state == WRONG
    assert "make setup" in doctor._packages().text


@pytest.fixture
def healthy(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(empty_store, tmp_path)
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / ".dvc").mkdir()
    monkeypatch.setattr(doctor, "_wrong_packages", lambda: iter(()))
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


def test_each_fault_is_named_with_its_fix(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://u:hunter2@127.0.0.1:1")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr(doctor, "_wrong_packages", lambda: iter(["onnx is 1.0, ==1.23.2 is required"]))
    (healthy / "params.yaml").write_text("data: 3")
    (healthy / "dvc.yaml").unlink()
    found = states(healthy)
    assert {name for name, state in found.items() if state == WRONG} == {
        "packages", "workspace", "params.yaml", "MLflow", "Prefect"
    }  # fmt: skip
    assert "make setup" in text(healthy, "packages")
    assert "hunter2" not in text(healthy, "MLflow")


def test_waiting_runs_are_a_note(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with stage_run("train", "a", {}, workspace=healthy):
        pass
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert states(healthy)["backlog"] == NOTE
    assert "hscc track" in text(healthy, "backlog")


def test_a_full_disk_is_wrong(healthy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_FREE", 1e18)
    assert states(healthy)["disk"] == WRONG
