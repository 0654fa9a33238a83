from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.pipeline.artifacts import deployable, of_first_seed, read_baseline, read_cell, read_int8_variant
from hscc.pipeline.cell_spec import parse_cell

SPEC = parse_cell("hscc-macs6-seed1")
CELL = {"protocol": "grouped", "macs": 100, "params": 10, "predicted_loss": None, "val_accuracy": 0.9, "val_kl": 0.05}

Maker = Callable[[str], Path]


def test_a_cell_is_read_with_its_name(cell_folder: Maker) -> None:
    found = read_cell(cell_folder(json.dumps(CELL)), SPEC, "grouped")
    assert (found.name, found.macs, found.is_dense) == ("hscc-macs6-seed1", 100, False)
    assert found.validation.predicted_loss is found.validation.kl_before is None
    assert found.model.name == "model.onnx"


def test_a_baseline_is_dense_and_equal_to_itself(cell_folder: Maker) -> None:
    facts = {"protocol": "pooled", "seed": 0, "macs": 600, "params": 60, "val_accuracy": 0.95}
    found = read_baseline(cell_folder(json.dumps(facts)), "pooled")
    assert (found.name, found.spec, found.validation.kl, found.is_dense) == ("dense-pooled", None, 0.0, True)


def test_a_missing_file_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="hscc compress hscc-macs6-seed1"):
        read_cell(tmp_path, SPEC, "grouped")
    with pytest.raises(ArtifactError, match="hscc train --protocol official"):
        read_baseline(tmp_path, "official")


def test_a_cell_without_its_network_is_missing(cell_folder: Maker) -> None:
    folder = cell_folder(json.dumps(CELL))
    (folder / "model.onnx").unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx does not exist"):
        read_cell(folder, SPEC, "grouped")


def test_an_int8_variant_is_its_network_in_int8(cell_folder: Maker, tmp_path: Path) -> None:
    network = read_cell(cell_folder(json.dumps(CELL)), SPEC, "grouped")
    folder = tmp_path / "int8"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"int8")
    facts = {"protocol": "grouped", "source_sha256": file_sha256(network.model), "val_accuracy": 0.8, "val_kl": 0.07}
    (folder / "metrics.json").write_text(json.dumps(facts))
    found = read_int8_variant(folder, network)
    assert (found.name, found.macs, found.validation.kl) == ("hscc-macs6-seed1-int8", 100, 0.07)
    assert found.precision == "int8" and not found.is_compressed
    network.model.write_bytes(b"another")
    with pytest.raises(ArtifactError, match=r"was not made from .*; run `hscc quantise`"):
        read_int8_variant(folder, network)


def test_further_seeds_are_not_timed_and_controls_not_quantised(cell_folder: Maker) -> None:
    folder = cell_folder(json.dumps(CELL))
    names = ("hscc-macs6-seed1", "hscc-macs6-seed2", "hscc_direct-macs6-seed0", "tucker-macs3-seed2")
    cells = [read_cell(folder, parse_cell(name), "grouped") for name in names]
    assert [cell.name for cell in of_first_seed(cells)] == [names[0], names[2], names[3]]
    assert [cell.name for cell in deployable(cells)] == [names[0], names[3]]


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
        read_cell(cell_folder(text), SPEC, "grouped")
