"""The stage export on a small workspace with real networks in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import hscc
from hscc.engine.program import QuantisedConvolution
from hscc.engine.program_file import load_program
from hscc.errors import ArtifactError, ParamsError
from hscc.export.card import DeploymentCard
from hscc.export.onnx_file import read_card
from hscc.export.preprocessing import Preprocessing
from hscc.export.to_onnx import write_onnx
from hscc.files import file_sha256
from hscc.networks.backbones import build
from hscc.networks.storage import ModelCard, save_dense
from hscc.pipeline import layout
from hscc.pipeline.commands import export
from hscc.pipeline.data.images import load_images
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.statistics.schema import Estimate, write_record
from hscc.storage import Origin
from hscc.training.images import to_input
from tests.pipeline.committed import committed
from tests.pipeline.rows import results, row

SIDE = 32
PARAMS = committed(data={"image_size": SIDE})
CELL = "tucker-macs2-seed0"
FACTS = {"protocol": "grouped", "macs": 10, "params": 5, "val_accuracy": 0.9, "val_kl": 0.1, "predicted_loss": None}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    torch.manual_seed(0)
    dense = build("smallcnn", len(CLASSES)).eval()
    images = [torch.randn(16, 3, SIDE, SIDE)]
    small = hscc.compress(dense, images, hscc.Tucker(), hscc.Budget(macs=2), cells=1, refit=False)
    baseline, cell = root / layout.baseline("grouped"), root / layout.cell(CELL)
    save_dense(dense, ModelCard("smallcnn", CLASSES, SIDE, "grouped", 0), baseline / "model.safetensors")
    hscc.save(small, cell, Origin("smallcnn", len(CLASSES)))
    for folder, model, method in ((baseline, dense, "dense"), (cell, small, "tucker")):
        write_onnx(model, folder / "model.onnx", (3, SIDE, SIDE))
        (folder / "metrics.json").write_text(json.dumps({**FACTS, "method": method, "budget": 2, "seed": 0}))
    (root / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data\n")
    _write_images(root)
    found = row(model_sha256=file_sha256(cell / "model.onnx"), accuracy=Estimate(value=0.875), macs=2.0)
    (root / layout.RESULTS_JSON).parent.mkdir()
    (root / layout.RESULTS_JSON).write_text(write_record(results(found, phantom=True)))
    return root


def _write_images(root: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for index, shape in enumerate([(40, 50, 3), (90, 41), (33, 33, 3), *[(40, 40)] * 6]):
        split = "test" if index < 3 else "train"
        path = Path("Testing") / CLASSES[0] / f"{index}.png"
        (root / layout.DATA / path).parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        image.save(root / layout.DATA / path)
        rows.append(_row(path, index, image, split))
    pd.DataFrame(rows).to_csv(root / layout.MANIFEST, index=False)


def _row(path: Path, index: int, image: Image.Image, split: str) -> dict[str, object]:
    return {
        "path": path.as_posix(), "label": CLASSES[0], "official_split": "Testing", "width": image.width,
        "height": image.height, "mode": image.mode, "bytes": 1, "sha256": f"{index:064x}", "phash": "0" * 16,
        "decodable": True, "group": index, "conflict": False, "split_grouped": split, "split_pooled": split,
        "split_official": split,
    }  # fmt: skip


def probabilities(path: Path, image: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    picture = np.asarray(Image.open(image))
    return session.run(None, {"image": picture.reshape(1, *picture.shape[:2], -1)})[0]


def by_the_pipeline(model: nn.Module, workspace: Path) -> np.ndarray:
    manifest = read_manifest(workspace / layout.MANIFEST)
    inputs = to_input(load_images(manifest, workspace / layout.DATA, (SIDE, SIDE), workspace / "cache"))
    with torch.no_grad():
        return torch.softmax(model(inputs), 1).numpy()


def test_a_cell_answers_files_as_the_pipeline_does(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cell.onnx"
    export.run(PARAMS, workspace, out=out, cell="tucker-macs2-seed0")
    expected = by_the_pipeline(hscc.load(workspace / layout.cell(CELL)), workspace)
    images = sorted((workspace / layout.DATA).rglob("*.png"))
    found = np.concatenate([probabilities(out, image) for image in images])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert "on 3 test images and drawn pictures" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["cell.onnx"]


def test_pt2_gets_the_same_network_and_card_beside_the_onnx_file(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(model: nn.Module, path: Path, preprocessing: Preprocessing, card: DeploymentCard, **_: object) -> float:
        path.write_text(f"{card.method} {preprocessing.size} {type(model).__name__}")
        return 0.0

    monkeypatch.setattr(export, "export_pt2", write)
    export.run(PARAMS, workspace, out=tmp_path / "cell.onnx", cell="tucker-macs2-seed0", pt2=True)
    assert (tmp_path / "cell.pt2").read_text() == f"tucker {SIDE} Sequential"


def test_the_card_says_where_the_network_comes_from(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "cell.onnx"
    export.run(PARAMS, workspace, out=out, cell="tucker-macs2-seed0")
    card = read_card(out)
    assert json.loads(card["classes"]) == list(CLASSES)
    scores = json.loads(card["scores"])
    assert (scores["accuracy"], scores["macs_ratio"], scores["kl"]) == (0.875, 2.0, 0.1)
    assert (card["backbone"], card["method"], card["protocol"]) == ("smallcnn", "tucker", "grouped")
    assert (card["budget"], card["data_hash"], card["git_commit"]) == ("2x fewer MACs", "abc.dir", "unknown")
    assert "Tucker-2" in card["plan"]
    assert card["network_sha256"] == file_sha256(workspace / layout.cell(CELL) / "model.onnx")
    assert "not a medical device" in card["notice"]
    assert "phantom" in card["notice"]


def test_a_baseline_and_the_registered_cell(workspace: Path, tmp_path: Path) -> None:
    export.run(PARAMS, workspace, out=tmp_path / "dense.onnx", baseline="grouped")
    assert read_card(tmp_path / "dense.onnx")["method"] == "dense"
    assert "scores" not in read_card(tmp_path / "dense.onnx")  # the table has another file's
    with pytest.raises(ArtifactError, match="--cell"):
        export.run(PARAMS, workspace, out=tmp_path / "best.onnx")
    (workspace / layout.REGISTRATION).write_text(json.dumps({"registered": "tucker-macs2-seed0"}))
    export.run(PARAMS, workspace, out=tmp_path / "best.onnx")
    (workspace / layout.REGISTRATION).unlink()
    assert read_card(tmp_path / "best.onnx")["method"] == "tucker"


def test_a_saved_network_needs_no_workspace(workspace: Path, tmp_path: Path) -> None:
    export.run_folder(workspace / layout.cell(CELL), SIDE, ("a", "b", "c", "d"), tmp_path / "own.onnx")
    card = read_card(tmp_path / "own.onnx")
    assert json.loads(card["classes"]) == ["a", "b", "c", "d"]
    assert card["method"] == "tucker"
    assert "data_hash" not in card


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"cell": "tucker"}, ParamsError, "such as hscc-macs6-seed0"),
        ({"cell": "tucker-macs9-seed0"}, ArtifactError, "hscc compress tucker-macs9-seed0"),
        ({"baseline": "pooled"}, ArtifactError, "hscc train --protocol pooled"),
        ({"cell": "tucker-macs2-seed0", "baseline": "grouped"}, ParamsError, "exclude one another"),
    ],
)
def test_what_is_not_there_is_named(
    asked: dict[str, str], error: type[Exception], words: str, workspace: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        export.run(PARAMS, workspace, out=tmp_path / "x.onnx", **asked)


def test_another_ending_is_refused(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"must end in \.onnx"):
        export.run(PARAMS, workspace, out=tmp_path / "x.pt2", cell="tucker-macs2-seed0")


def test_int8_for_the_engine(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "small.hscc"
    export.run(PARAMS, workspace, out=out, cell=CELL, precision="int8")
    program = load_program(out)
    assert any(isinstance(op, QuantisedConvolution) for op in program.operations)
    assert program.card["protocol"] == "grouped" and "int8" in capsys.readouterr().out
    with pytest.raises(ParamsError, match="hscc"):
        export.run(PARAMS, workspace, out=tmp_path / "small.onnx", cell=CELL, precision="int8")
