from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.pipeline.artifacts import read_baseline, read_cell, read_twin

CELL = {
    "method": "hscc",
    "budget": 6,
    "seed": 1,
    "protocol": "grouped",
    "macs": 100,
    "params": 10,
    "predicted_loss": None,
    "val_accuracy": 0.9,
    "val_kl": 0.05,
}

Maker = Callable[[str], Path]


def test_a_cell_is_read_with_its_name(cell_folder: Maker) -> None:
    found = read_cell(cell_folder(json.dumps(CELL)), "hscc", 6.0, 1, "grouped")
    assert (found.name, found.macs, found.predicted_loss, found.is_dense) == ("hscc-6-1", 100, None, False)
    assert found.model.name == "model.onnx"


def test_a_baseline_is_dense_and_equal_to_itself(cell_folder: Maker) -> None:
    facts = {"protocol": "pooled", "seed": 0, "macs": 600, "params": 60, "val_accuracy": 0.95}
    found = read_baseline(cell_folder(json.dumps(facts)), "pooled")
    assert (found.name, found.budget, found.val_kl, found.is_dense) == ("dense-pooled", 1.0, 0.0, True)


def test_a_missing_file_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="hscc compress --method hscc --budget 6 --seed 1"):
        read_cell(tmp_path, "hscc", 6.0, 1, "grouped")
    with pytest.raises(ArtifactError, match="hscc train --protocol official"):
        read_baseline(tmp_path, "official")


def test_a_cell_without_its_network_is_missing(cell_folder: Maker) -> None:
    folder = cell_folder(json.dumps(CELL))
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx does not exist"):
        read_cell(folder, "hscc", 6.0, 1, "grouped")


def test_a_twin_is_its_network_in_int8(cell_folder: Maker, tmp_path: Path) -> None:
    network = read_cell(cell_folder(json.dumps(CELL)), "hscc", 6.0, 1, "grouped")
    twin = tmp_path / "twin"
    twin.mkdir()
    (twin / "model.onnx").write_bytes(b"int8")
    facts = {"protocol": "grouped", "source_sha256": file_sha256(network.model), "val_accuracy": 0.8, "val_kl": 0.07}
    (twin / "metrics.json").write_text(json.dumps(facts))
    found = read_twin(twin, network)
    assert (found.name, found.macs, found.val_kl, found.is_dense) == ("hscc-6-1-int8", 100, 0.07, False)
    network.model.write_bytes(b"another")
    with pytest.raises(ArtifactError, match=r"was not made from .*; run `hscc quantise`"):
        read_twin(twin, network)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "is not JSON"),
        ("[]", "not about the grouped protocol"),
        (json.dumps({**CELL, "protocol": "pooled"}), "not about the grouped protocol"),
        (json.dumps({name: CELL[name] for name in CELL if name != "macs"}), "'macs'"),
        (json.dumps({**CELL, "val_accuracy": float("nan")}), "val_accuracy is nan"),
        (json.dumps({**CELL, "val_kl": None}), "lacks a usable figure"),
    ],
)
def test_metrics_that_do_not_fit_are_refused(cell_folder: Maker, text: str, complaint: str) -> None:
    with pytest.raises(ArtifactError, match=complaint):
        read_cell(cell_folder(text), "hscc", 6.0, 1, "grouped")
