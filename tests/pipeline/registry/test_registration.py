from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.registry.connection import RegistryError
from hscc.pipeline.registry.registration import Candidate, input_example, log_version
from hscc.pipeline.registry.versions import (
    fetch_network,
    find_by_hash,
    is_intact,
    list_versions,
    read_standing,
    resolve,
)
from hscc.pipeline.serving.plausibility import refuse_implausible
from hscc.pipeline.serving.reading import decode_picture
from hscc.pipeline.stages.register import SERVED
from hscc.pipeline.tracking import stage_run, tracking_uri
from tests.pipeline.registered import DATA_HASH, NAME, head, save_network
from tests.pipeline.specs import BRAIN


def candidate(folder: Path, seed: int) -> Candidate:
    """Make a network with its evidence, scores and plan."""
    place = folder / str(seed)
    sha256 = save_network(place / "model.onnx", seed)
    (place / "plan.json").write_text("{}")
    (place / "scores.json").write_text('{"accuracy": 0.912}')
    evidence = {"sha256": "ab", "copy": 0, "group": 1, "label": "x", "predicted": "x", "dense": "y"}
    pd.DataFrame([evidence]).to_csv(place / "evidence.csv", index=False)
    return Candidate(
        files=tuple(place / name for name in ("model.onnx", "plan.json", "scores.json", "evidence.csv")),
        code=SERVED,
        sha256=sha256,
        tags={"method": "hscc", "budget": "6", "protocol": "grouped", "data_hash": DATA_HASH, "phantom": "false"},
        metrics={"accuracy": 0.912, "macs_ratio": 6.1},
        description="A small network.",
        classes=CLASSES,
    )


@pytest.fixture(scope="module")
def store(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose registry holds two networks, the second of them aliased."""
    workspace = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_store, workspace)
    uri = tracking_uri(workspace)
    (workspace / "data.dvc").write_text(f"outs:\n- md5: {DATA_HASH}\n  path: data\n")
    with stage_run("register", "tiny", {}, {}, workspace) as tracked:
        for seed in (0, 1):
            number = log_version(candidate(workspace, seed), NAME, uri, tracked.run_id)
            MlflowClient(uri).set_registered_model_alias(NAME, "challenger", number)
    return workspace


@pytest.fixture
def client(store: Path) -> MlflowClient:
    return MlflowClient(tracking_uri(store))


def model_of(client: MlflowClient) -> str:
    return str(client.get_model_version(NAME, "1").source).removeprefix("models:/")


def test_a_network_is_found_by_the_hash_of_its_file(store: Path) -> None:
    uri = tracking_uri(store)
    assert [find_by_hash(NAME, candidate(store, seed).sha256, uri) for seed in (0, 1, 2)] == ["1", "2", None]
    assert find_by_hash("no-such-model", candidate(store, 0).sha256, uri) is None


def test_a_version_has_its_origin_and_scores(client: MlflowClient) -> None:
    version = client.get_model_version(NAME, "1")
    assert version.description == "A small network."
    expected = {"method": "hscc", "budget": "6", "protocol": "grouped", "data_hash": DATA_HASH, "accuracy": "0.912"}
    assert expected.items() <= version.tags.items()
    (found,) = client.get_run(version.run_id).inputs.dataset_inputs
    assert found.dataset.digest == DATA_HASH
    logged = client.get_logged_model(model_of(client))
    assert {metric.key: metric.value for metric in logged.metrics} == {"accuracy": 0.912, "macs_ratio": 6.1}


def test_a_version_holds_the_evaluated_file_and_no_pickle(store: Path, client: MlflowClient) -> None:
    (kept,) = (store / "mlruns" / "models" / model_of(client)).rglob("model.onnx")
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == candidate(store, 0).sha256
    files = [path for path in (store / "mlruns" / "models").rglob("*") if path.is_file()]
    assert {"MLmodel", "model.onnx", "plan.json", "scores.json", "evidence.csv", "served_model.py"} <= {
        path.name for path in files
    }
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".joblib")]


def test_the_registered_network_answers_like_the_file(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(store))
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@challenger")
    answer = loaded.predict(pd.DataFrame({"pixels": [head().tolist()]}))
    assert list(answer) == ["class", *CLASSES, "notice"]
    assert answer[list(CLASSES)].to_numpy().sum() == pytest.approx(1.0)
    assert answer["class"][0] == answer[list(CLASSES)].iloc[0].astype(float).idxmax()
    assert loaded.metadata.get_input_schema().input_names() == ["image", "pixels"]
    assert loaded.metadata.metadata["classes"] == list(CLASSES)


def test_versions_are_listed_with_aliases_the_newest_first(store: Path) -> None:
    uri = tracking_uri(store)
    assert [(entry.number, entry.aliases) for entry in list_versions(NAME, uri)] == [("2", ("challenger",)), ("1", ())]
    assert resolve(NAME, "challenger", uri).number == "2"
    assert list_versions("no-such-model", uri) == []
    with pytest.raises(RegistryError, match="no version 'champion'"):
        resolve(NAME, "champion", uri)


def test_evidence_and_network_of_a_version_are_fetched_once(store: Path, tmp_path: Path) -> None:
    uri = tracking_uri(store)
    version = resolve(NAME, "1", uri)
    standing = read_standing(version, uri)
    assert standing.figures == {"accuracy": 0.912}
    assert list(standing.evidence["predicted"]) == ["x"]
    target = fetch_network(version, uri, tmp_path)
    before = target.stat().st_mtime_ns
    assert fetch_network(version, uri, tmp_path).stat().st_mtime_ns == before
    assert hashlib.sha256(target.read_bytes()).hexdigest() == candidate(store, 0).sha256


def test_a_network_that_was_damaged_in_the_registry_is_not_used(
    store: Path, client: MlflowClient, tmp_path: Path
) -> None:
    uri = tracking_uri(store)
    (kept,) = (store / "mlruns" / "models" / model_of(client)).rglob("model.onnx")
    whole = kept.read_bytes()
    version = resolve(NAME, "1", uri)
    try:
        for damage in (whole[: len(whole) // 2], None):
            kept.unlink() if damage is None else kept.write_bytes(damage)
            assert not is_intact(version, uri)
            with pytest.raises(RegistryError, match="register"):
                fetch_network(version, uri, tmp_path)
    finally:
        kept.write_bytes(whole)
    assert is_intact(version, uri)


def test_a_kill_between_upload_and_version_leaves_no_half_version(
    store: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "create_model_version", killed)
    uri = tracking_uri(store)
    with pytest.raises(KeyboardInterrupt), stage_run("register", "cut", {}, {}, store) as tracked:
        log_version(candidate(store, 3), NAME, uri, tracked.run_id)
    assert [entry.number for entry in list_versions(NAME, uri)] == ["2", "1"]
    assert find_by_hash(NAME, candidate(store, 3).sha256, uri) is None


def test_the_example_is_a_picture_that_passes() -> None:
    picture = decode_picture(input_example()["image"][0], "example")
    refuse_implausible(picture, BRAIN.plausible, BRAIN.texts.subject)
    assert picture.grey.dtype == np.uint8


def test_the_global_state_is_left_as_it_was(store: Path) -> None:
    assert "MLFLOW_TRACKING_URI" not in os.environ
    assert tracking_uri(store) != mlflow.get_tracking_uri()


def test_a_store_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database")
    with pytest.raises(RegistryError, match="MLFLOW_TRACKING_URI"):
        find_by_hash(NAME, "0" * 64, tracking_uri(tmp_path))
