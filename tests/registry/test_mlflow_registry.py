from __future__ import annotations

import hashlib
import os
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from hscc.errors import HSCCError
from hscc.registry.mlflow_registry import Candidate, find_version, input_example, log_version, set_alias
from hscc.tracking import stage_run, tracking_uri

NAME = "hscc-tiny"
DATA_HASH = "440a20f27877ad996e95c9e6d1d13da5.dir"


def candidate(folder: Path, seed: int) -> Candidate:
    weight = np.random.default_rng(seed).normal(size=(3 * 8 * 8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = folder / f"{seed}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return Candidate(
        model=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        tags={"method": "hscc", "budget": "6", "protocol": "grouped", "data_hash": DATA_HASH},
        metrics={"accuracy": 0.912, "macs_ratio": 6.1},
        description="A small network.",
        classes=("a", "b", "c", "d"),
        data_hash=DATA_HASH,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose registry holds two networks, the second of them aliased."""
    workspace = tmp_path_factory.mktemp("store")
    uri = tracking_uri(workspace)
    with stage_run("register", "tiny", {}, {}, workspace) as tracked:
        for seed in (0, 1):
            number = log_version(candidate(workspace, seed), NAME, uri, tracked.run_id)
            set_alias(NAME, "challenger", number, uri)
    return workspace


@pytest.fixture
def client(store: Path) -> MlflowClient:
    return MlflowClient(tracking_uri(store))


def model_of(client: MlflowClient) -> str:
    return str(client.get_model_version(NAME, "1").source).removeprefix("models:/")


def test_a_network_is_found_by_the_hash_of_its_file(store: Path) -> None:
    uri = tracking_uri(store)
    assert [find_version(NAME, candidate(store, seed).sha256, uri) for seed in (0, 1, 2)] == ["1", "2", None]
    assert find_version("no-such-model", candidate(store, 0).sha256, uri) is None


def test_the_alias_points_at_one_version_and_moves(store: Path, client: MlflowClient) -> None:
    assert client.get_model_version_by_alias(NAME, "challenger").version == 2
    set_alias(NAME, "challenger", "1", tracking_uri(store))
    assert client.get_model_version_by_alias(NAME, "challenger").version == 1
    set_alias(NAME, "challenger", "2", tracking_uri(store))


def test_the_version_carries_where_it_comes_from_and_what_it_scores(client: MlflowClient) -> None:
    version = client.get_model_version(NAME, "1")
    assert version.description == "A small network."
    assert {"method": "hscc", "data_hash": DATA_HASH, "accuracy": "0.912"}.items() <= version.tags.items()
    (found,) = client.get_run(version.run_id).inputs.dataset_inputs
    assert found.dataset.digest == DATA_HASH
    logged = client.get_logged_model(model_of(client))
    assert {metric.key: metric.value for metric in logged.metrics} == {"accuracy": 0.912, "macs_ratio": 6.1}


def test_what_is_kept_is_the_evaluated_file_and_no_pickle(store: Path, client: MlflowClient) -> None:
    model_id = model_of(client)
    names = {Path(entry.path).name for entry in client.list_logged_model_artifacts(model_id)}
    assert {"MLmodel", "model.onnx", "input_example.json", "requirements.txt"} <= names
    assert {Path(name).suffix for name in names} <= {"", ".onnx", ".json", ".txt", ".yaml"}
    (kept,) = (store / "mlruns" / "models" / model_id).rglob("model.onnx")
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == candidate(store, 0).sha256


def test_the_registered_network_answers_like_the_file(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(store))
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@challenger")
    images = np.random.default_rng(5).normal(size=(3, 3, 8, 8)).astype(np.float32)
    weight = numpy_helper.to_array(onnx.load(candidate(store, 1).model).graph.initializer[0])
    np.testing.assert_allclose(loaded.predict(images)["logits"], images.reshape(3, -1) @ weight, rtol=1e-4, atol=1e-4)
    schema = loaded.metadata.signature.inputs.inputs[0]
    assert (schema.name, schema.shape, schema.type) == ("image", (-1, 3, 8, 8), np.dtype(np.float32))
    assert loaded.metadata.metadata["classes"] == ["a", "b", "c", "d"]


def test_the_example_is_a_batch_that_fits(store: Path) -> None:
    example = input_example(onnx.load(candidate(store, 0).model))
    assert example["image"].shape == (2, 3, 8, 8)
    assert example["image"].dtype == np.float32


def test_the_global_state_is_left_as_it_was(store: Path) -> None:
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert tracking_uri(store) != mlflow.get_tracking_uri()


def test_a_store_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database")
    with pytest.raises(HSCCError, match="mend MLFLOW_TRACKING_URI"):
        find_version(NAME, "0" * 64, tracking_uri(tmp_path))
