"""Weights that MLflow keeps, read without pickle; an address is looked up anew each time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hscc.errors import ArtifactError, ParamsError
from hscc.pipeline.params import read_own_code
from hscc.pipeline.stages import code
from hscc.pipeline.tracking.store import tracking_uri
from hscc.pipeline.tracking.weights import weights_file


@pytest.fixture
def logged(tmp_path: Path, empty_store: Path) -> tuple[Path, str]:
    """A workspace whose store holds a run with one file of weights, and the run's id."""
    from mlflow import MlflowClient

    shutil.copy(empty_store, tmp_path)
    client = MlflowClient(tracking_uri(tmp_path))
    experiment = client.create_experiment("elsewhere", artifact_location=(tmp_path / "mlruns").as_uri())
    run = client.create_run(experiment).info.run_id
    save_file({"weight": torch.arange(3.0)}, tmp_path / "trained.safetensors")
    client.log_artifact(run, str(tmp_path / "trained.safetensors"), "network")
    return tmp_path, run


def test_the_one_file_below_an_address_is_taken(logged: tuple[Path, str]) -> None:
    workspace, run = logged
    path = weights_file(f"runs:/{run}/network", workspace)
    assert torch.equal(load_file(path)["weight"], torch.arange(3.0))
    assert weights_file(f"runs:/{run}/network/trained.safetensors", workspace).read_bytes() == path.read_bytes()
    assert weights_file("trained.safetensors", workspace) == workspace / "trained.safetensors"


def test_other_weights_under_the_address_make_the_training_stale(logged: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    workspace, run = logged
    (workspace / "params.yaml").write_text(f"train: {{backbone: smallcnn, weights: 'runs:/{run}/network'}}\n")
    assert read_own_code(workspace / "params.yaml").weights == f"runs:/{run}/network"
    code.run(workspace)
    before = (workspace / "artifacts/code/train.json").read_text()
    save_file({"weight": torch.zeros(3)}, workspace / "trained.safetensors")
    MlflowClient(tracking_uri(workspace)).log_artifact(run, str(workspace / "trained.safetensors"), "network")
    code.run(workspace)
    assert (workspace / "artifacts/code/train.json").read_text() != before


def test_what_is_not_there_or_not_one_file_is_named(logged: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    workspace, run = logged
    for missing in ("gone.pt", f"runs:/{'0' * 32}/network", "models:/nothing/1"):
        with pytest.raises(ParamsError, match=missing.replace("/", "/")):
            weights_file(missing, workspace)
    client = MlflowClient(tracking_uri(workspace))
    client.log_text(run, "a network", "network/second.pt")
    with pytest.raises(ArtifactError, match=r"second\.pt, trained\.safetensors"):
        weights_file(f"runs:/{run}/network", workspace)
