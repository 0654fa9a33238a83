from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.commands import track
from hscc.pipeline.registry.audit_log import CHALLENGER, REGISTER, read_audit_log
from hscc.pipeline.stages.register import run
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.locked import held_by_another_process
from tests.pipeline.registered import NAME, params, write_results

PARAMS = params()


@pytest.fixture(scope="module")
def registered(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one cell that passes the policy and one that does not, after the stage."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copy(empty_store, workspace)
    write_results(workspace)
    run(PARAMS, workspace)
    return workspace


@pytest.fixture
def workspace(registered: Path, empty_store: Path, tmp_path: Path) -> Path:
    """Copy what DVC would bring to a fresh clone: no run, an empty store."""
    shutil.copytree(registered, tmp_path / "clone", ignore=shutil.ignore_patterns("mlruns", "mlflow.db", ".hscc"))
    shutil.copy(empty_store, tmp_path / "clone")
    return tmp_path / "clone"


def versions(workspace: Path) -> list[Any]:
    return list(MlflowClient(tracking_uri(workspace)).search_model_versions(f"name = '{NAME}'"))


def record(workspace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace / layout.REGISTRATION).read_text(encoding="utf-8"))
    return found


def test_the_cell_that_passes_is_the_challenger(registered: Path) -> None:
    (version,) = versions(registered)
    assert version.tags["method"] == "hscc"
    assert version.tags["model_sha256"] == record(registered)["model_sha256"]
    assert {key: version.tags[key] for key in ("network", "budget_macs", "protocol", "phantom")} == {
        "network": "hscc-macs6-seed0", "budget_macs": "6", "protocol": "grouped", "phantom": "false"
    }  # fmt: skip
    found = MlflowClient(tracking_uri(registered)).get_model_version_by_alias(NAME, "challenger")
    assert found.version == version.version
    assert found.description.startswith("HSCC, 6×") and "6.0 times fewer MACs" in found.description


def test_the_record_says_what_and_why(registered: Path) -> None:
    found = record(registered)
    assert (found["name"], found["alias"], found["registered"]) == (NAME, "challenger", "hscc-macs6-seed0")
    assert found["requirements"] == {"max_drop": 0.01, "min_macs_ratio": 2.0, "min_speedup": 1.0}
    ((network, (reason,)),) = found["rejected"].items()
    assert network == "tucker-macs6-seed0" and "1.50" in reason
    assert found["figures"]["against_dense_accuracy_low"] == -0.02
    assert found["figures"]["speedup_b1"] == 2.0


def test_a_second_time_registers_nothing_and_opens_no_run(registered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (registered / layout.REGISTRATION).read_bytes()
    run(PARAMS, registered)
    assert len(versions(registered)) == 1
    client = MlflowClient(tracking_uri(registered))
    assert len(client.search_runs([client.get_experiment_by_name("hscc").experiment_id])) == 1
    assert (registered / layout.REGISTRATION).read_bytes() == before
    assert "already was version 1" in capsys.readouterr().out
    (entry,) = read_audit_log(NAME, CHALLENGER, tracking_uri(registered))
    assert (entry.action, entry.before, entry.after, entry.reason) == (REGISTER, None, "1", "hscc-macs6-seed0")


def test_a_fresh_clone_registers_anew_with_the_same_record(workspace: Path, registered: Path) -> None:
    run(PARAMS, workspace)
    assert len(versions(workspace)) == 1
    assert (workspace / layout.REGISTRATION).read_bytes() == (registered / layout.REGISTRATION).read_bytes()


def test_nothing_is_registered_when_none_passes(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(workspace, difference=(-0.3, -0.4, -0.2))
    run(PARAMS, workspace)
    assert record(workspace)["registered"] is None
    assert set(record(workspace)["rejected"]) == {"hscc-macs6-seed0", "tucker-macs6-seed0"}
    assert "nothing registered" in capsys.readouterr().out
    assert versions(workspace) == []


def test_a_file_that_was_not_the_one_evaluated_is_refused(workspace: Path) -> None:
    before = (workspace / layout.REGISTRATION).read_bytes()
    model = workspace / layout.cell("hscc-macs6-seed0") / "model.onnx"
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match="not the file that was evaluated"):
        run(PARAMS, workspace)
    model.unlink()
    with pytest.raises(ArtifactError, match="dvc pull"):
        run(PARAMS, workspace)
    assert (workspace / layout.REGISTRATION).read_bytes() == before


def test_missing_results_name_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="hscc evaluate"):
        run(PARAMS, tmp_path)


def test_a_registry_that_is_down_costs_a_warning_and_is_caught_up_with(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (workspace / layout.REGISTRATION).read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    run(PARAMS, workspace)
    assert (workspace / layout.REGISTRATION).read_bytes() == before
    assert "hscc track" in capsys.readouterr().err
    assert (workspace / layout.POSTPONED_REGISTRATION).is_file()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr("hscc.pipeline.commands.track.read_params", lambda path: PARAMS)
    track.run(workspace)
    assert len(versions(workspace)) == 1
    assert not (workspace / layout.POSTPONED_REGISTRATION).exists()


def test_a_version_whose_files_were_lost_is_registered_anew(workspace: Path) -> None:
    run(PARAMS, workspace)
    shutil.rmtree(workspace / "mlruns" / "models")
    run(PARAMS, workspace)
    assert [version.version for version in versions(workspace)] == [2, 1]
    assert MlflowClient(tracking_uri(workspace)).get_model_version_by_alias(NAME, "challenger").version == 2


def test_a_version_that_does_not_say_what_it_was_trained_on_is_registered_anew(workspace: Path) -> None:
    run(PARAMS, workspace)
    MlflowClient(tracking_uri(workspace)).delete_model_version_tag(NAME, "1", "phantom")
    run(PARAMS, workspace)
    assert [version.tags.get("phantom") for version in versions(workspace)] == ["false", None]
    moves = [(entry.before, entry.after) for entry in read_audit_log(NAME, CHALLENGER, tracking_uri(workspace))]
    assert moves == [(None, "1"), ("1", "2")]


def test_a_registry_that_another_writer_holds_gets_no_half_version_and_is_caught_up_with(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_by_another_process(workspace / "mlflow.db"):
        run(PARAMS, workspace)
        said = capsys.readouterr().err
        assert versions(workspace) == []
    assert "database is locked" in said
    assert "hscc-macs6-seed0 is not registered yet; `hscc track` does it." in said
    monkeypatch.setattr("hscc.pipeline.commands.track.read_params", lambda path: PARAMS)
    track.run(workspace)
    (version,) = versions(workspace)
    found = MlflowClient(tracking_uri(workspace)).get_model_version_by_alias(NAME, "challenger")
    assert found.version == version.version


def test_a_disk_that_is_full_while_registering_leaves_no_version(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlflow.pyfunc.log_model", full)
    with pytest.raises(OSError, match="No space"):
        run(PARAMS, workspace)
    monkeypatch.undo()
    assert versions(workspace) == []
    run(PARAMS, workspace)
    assert len(versions(workspace)) == 1
