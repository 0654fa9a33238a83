from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from hscc.data.classes import CLASSES
from hscc.errors import ArtifactError
from hscc.params import Params, RegisterParams
from hscc.stages import layout
from hscc.stages.register import run
from hscc.tracking import tracking_uri

NAME = "hscc-tiny"
PARAMS = Params.model_construct(register_=RegisterParams(name=NAME))
DATA_HASH = "440a20f27877ad996e95c9e6d1d13da5.dir"


def save_network(path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(np.ones((48, 4), dtype=np.float32), "w")],
    )
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def row(method: str, sha256: str, **changes: Any) -> dict[str, Any]:
    return {
        "method": method, "budget": 1.0 if method == "dense" else 6.0, "seed": 0, "protocol": "grouped", "n_test": 100,
        "macs": 100, "params": 10, "macs_ratio": 6.0, "params_ratio": 1.0, "size_bytes": 1, "model_sha256": sha256,
        "accuracy": 0.9, "accuracy_se": 0.03, "macro_f1": 0.9, "macro_f1_se": 0.03, "kl_to_baseline": 0.1,
        "accuracy_difference": 0.0, "accuracy_difference_se": 0.01, "accuracy_difference_low": -0.02,
        "accuracy_difference_high": 0.02, "val_accuracy": 0.9, "val_kl": 0.1, "speedup_b1": 2.0,
        "speedup_b1_iqr": 0.1, "latency_ms_b1": 3.0, "data_hash": DATA_HASH, "git_commit": "f" * 40, **changes,
    }  # fmt: skip


def write_results(workspace: Path, **changes: Any) -> None:
    model = workspace / layout.cell("hscc", 6.0, 0) / "model.onnx"
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    document = {
        "protocol": "grouped", "phantom": False, "classes": CLASSES, "data_hash": DATA_HASH, "git_commit": "f" * 40,
        "rows": [row("dense", "0"), row("hscc", sha256, **changes), row("tucker", "0", macs_ratio=1.5)],
    }  # fmt: skip
    path = workspace / layout.RESULTS_JSON
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one cell that passes the policy and one that does not, after the stage."""
    workspace = tmp_path_factory.mktemp("workspace")
    save_network(workspace / layout.cell("hscc", 6.0, 0) / "model.onnx")
    write_results(workspace)
    run(PARAMS, workspace)
    return workspace


@pytest.fixture
def workspace(registered: Path, tmp_path: Path) -> Path:
    """Copy what DVC would bring to a fresh clone: no store, no run."""
    shutil.copytree(registered, tmp_path / "clone", ignore=shutil.ignore_patterns("mlruns", "mlflow.db", ".hscc"))
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
    assert "phantom" not in version.tags
    found = MlflowClient(tracking_uri(registered)).get_model_version_by_alias(NAME, "challenger")
    assert found.version == version.version
    assert found.description.startswith("HSCC, 6×: 6.0 times fewer MACs")


def test_the_record_says_what_and_why(registered: Path) -> None:
    found = record(registered)
    assert (found["name"], found["alias"], found["registered"]) == (NAME, "challenger", "hscc-6-0")
    assert found["policy"] == {"max_accuracy_drop": 0.01, "min_macs_ratio": 2.0, "min_speedup": 1.0}
    assert found["rejected"] == {"tucker-6-0": ["has 1.50 times fewer MACs, 2 are asked for"]}
    assert found["figures"]["accuracy_difference_low"] == -0.02


def test_a_second_time_registers_nothing_and_opens_no_run(registered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (registered / layout.REGISTRATION).read_bytes()
    run(PARAMS, registered)
    assert len(versions(registered)) == 1
    client = MlflowClient(tracking_uri(registered))
    assert len(client.search_runs([client.get_experiment_by_name("hscc").experiment_id])) == 1
    assert (registered / layout.REGISTRATION).read_bytes() == before
    assert "already was version 1" in capsys.readouterr().out


def test_a_fresh_clone_registers_anew_with_the_same_record(workspace: Path, registered: Path) -> None:
    run(PARAMS, workspace)
    assert len(versions(workspace)) == 1
    assert (workspace / layout.REGISTRATION).read_bytes() == (registered / layout.REGISTRATION).read_bytes()


def test_nothing_is_registered_when_none_passes(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(workspace, accuracy_difference=-0.3)
    run(PARAMS, workspace)
    assert record(workspace)["registered"] is None
    assert set(record(workspace)["rejected"]) == {"hscc-6-0", "tucker-6-0"}
    assert "nothing registered" in capsys.readouterr().out
    assert not (workspace / "mlflow.db").exists()


def test_a_file_that_was_not_the_one_evaluated_is_refused(workspace: Path) -> None:
    before = (workspace / layout.REGISTRATION).read_bytes()
    model = workspace / layout.cell("hscc", 6.0, 0) / "model.onnx"
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
