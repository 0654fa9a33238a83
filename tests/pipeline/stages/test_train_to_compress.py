"""The stages train, calibrate and compress on a handful of drawn images, with their real files."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import hscc
from hscc.errors import ArtifactError
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.cell_spec import parse_cell
from hscc.pipeline.data.loading import balanced_sample
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.data.sources.pin import directory_hash, hash_files
from hscc.pipeline.data_spec import Unlabelled
from hscc.pipeline.params import Params
from hscc.pipeline.stages import calibrate, compress, train

SIDE = 32


@pytest.fixture(scope="module")
def workspace(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("workspace")
    shutil.copy(empty_store, root)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(80):
        label = CLASSES[index % 4]
        path = Path("Training") / label / f"{index}.png"
        target = root / layout.DATA / path
        target.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 50, (SIDE, SIDE), dtype=np.uint8)
        pixels[4 + 7 * (index % 4) : 10 + 7 * (index % 4), 6:26] = 200
        Image.fromarray(pixels).save(target)
        split = "val" if index % 5 == 4 else "train"
        rows.append(_row(path.as_posix(), label, f"{index:064x}", split, index))
    manifest = pd.DataFrame(rows)
    (root / "artifacts").mkdir()
    manifest.to_csv(root / layout.MANIFEST, index=False)
    (root / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data\n")
    return root


def _row(path: str, label: str, digest: str, split: str, group: int) -> dict[str, object]:
    return {
        "path": path, "label": label, "official_split": "Training", "width": SIDE, "height": SIDE, "mode": "L",
        "bytes": 1, "sha256": digest, "phash": "0" * 16, "decodable": True, "group": group, "conflict": False,
        "split_grouped": split, "split_pooled": split, "split_official": split,
    }  # fmt: skip


@pytest.fixture(scope="module")
def params() -> Params:
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["data"]["image_size"] = SIDE
    content["train"] |= {
        "backbone": "smallcnn",
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 2e-3,
        "precision": "fp32",
    }
    content["calibrate"] |= {"images": 40, "cells": 2, "batch_size": 16}
    content["tradeoff"]["calibrations"] = []
    content["compress"]["finetune"] |= {"epochs": 1, "batch_size": 16, "trial_steps": 1, "precision": "fp32"}
    return Params.model_validate(content)


@pytest.fixture(scope="module")
def trained(workspace: Path, params: Params) -> Path:
    train.run(params, workspace, protocol="grouped")
    calibrate.run(params, workspace)
    return workspace


@dataclass(frozen=True)
class Cell:
    """A cell that was made, a copy of its folder, and what the stage printed."""

    name: str
    folder: Path
    said: str


@pytest.fixture(scope="module")
def made(trained: Path, params: Params, tmp_path_factory: pytest.TempPathFactory) -> Cell:
    cell, folder = parse_cell("tucker-macs3-seed0"), tmp_path_factory.mktemp("made") / "cell"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        compress.run(params, trained, cell=cell)
    shutil.copytree(trained / layout.cell(cell.name), folder)
    return Cell(cell.name, folder, said.getvalue())


def test_train_writes_what_the_graph_names(trained: Path) -> None:
    model, card = load_dense(trained / layout.baseline("grouped") / "model.safetensors")
    metrics = json.loads((trained / layout.train_metrics("grouped")).read_text())
    history = pd.read_csv(trained / layout.train_history("grouped"))
    assert card.classes == CLASSES
    assert metrics["params"] == sum(p.numel() for p in model.parameters())
    assert metrics["val_accuracy"] == pytest.approx(history["val_accuracy"].max(), abs=1e-5)
    assert (trained / layout.baseline("grouped") / "model.onnx").is_file()
    assert not list((trained / layout.CHECKPOINTS).iterdir())


@pytest.mark.parametrize("method", ["global_svd", "tucker"])  # hscc, which searches: test_volumes
def test_compress_writes_a_cell_within_its_budget(trained: Path, made: Cell, params: Params, method: str) -> None:
    folder = made.folder
    if method != "tucker":
        cell = parse_cell(f"{method}-macs3-seed0")
        compress.run(params, trained, cell=cell)
        folder = trained / layout.cell(cell.name)
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "model.onnx", "model.safetensors", "plan.json"}
    metrics = json.loads((folder / "metrics.json").read_text())
    dense = json.loads((trained / layout.train_metrics("grouped")).read_text())
    assert metrics["macs"] <= dense["macs"] / 3
    assert metrics["val_kl"] <= metrics["val_kl_before"] + 0.05
    small = hscc.load(folder)
    assert sum(p.numel() for p in small.parameters()) == metrics["params"]
    assert small(torch.zeros(1, 3, SIDE, SIDE)).shape == (1, 4)


def test_images_without_labels_are_learnt_from_too(
    trained: Path, made: Cell, params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for index in range(40):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    unlabelled = Unlabelled(folder=tmp_path, md5=directory_hash(hash_files(tmp_path)))
    tuning = params.compress.finetune.model_copy(update={"unlabelled": unlabelled})
    more = params.model_copy(update={"compress": params.compress.model_copy(update={"finetune": tuning})})
    without = load_file(made.folder / "model.safetensors")
    assert "without labels" not in made.said
    compress.run(more, trained, cell=parse_cell(made.name))
    assert "40 images without labels beside the 64 for training" in capsys.readouterr().out
    found = load_file(trained / layout.cell(made.name) / "model.safetensors")
    assert any(not torch.equal(without[key], found[key]) for key in found)


def test_an_old_cell_survives_a_failing_run(
    trained: Path, made: Cell, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = parse_cell(made.name)
    before = (trained / layout.cell(cell.name) / "metrics.json").read_bytes()
    monkeypatch.setattr(compress, "simplify_file", lambda path: path.rename(path))  # fails while the files are written
    monkeypatch.setattr(compress, "write_onnx", lambda *_: None)
    with pytest.raises(FileNotFoundError):
        compress.run(params, trained, cell=cell)
    assert (trained / layout.cell(cell.name) / "metrics.json").read_bytes() == before


def test_a_cell_whose_plan_was_not_made_says_how_to_get_it(trained: Path, params: Params) -> None:
    path = trained / layout.timed_plan("hscc-latency5-seed0")
    for content in (None, "null\n"):
        if content:
            path.parent.mkdir(parents=True)
            path.write_text(content)
        with pytest.raises(ArtifactError, match=r"hscc-latency5-seed0 in compress\.cells.*`hscc latency`"):
            compress.run(params, trained, cell=parse_cell("hscc-latency5-seed0"))


def test_half_of_a_private_cache_is_made_anew(trained: Path, made: Cell, params: Params) -> None:
    weights = trained / layout.cell(made.name) / "model.safetensors"
    before = load_file(made.folder / "model.safetensors")
    caches = [*(trained / layout.TEACHER_LOGITS).glob("*.safetensors"), *(trained / layout.IMAGE_CACHE).glob("*.npy")]
    assert {cache.suffix for cache in caches} == {".safetensors", ".npy"}
    for bytes_left in (0, 40):
        for cache in caches:
            os.truncate(cache, bytes_left)
        compress.run(params, trained, cell=parse_cell(made.name))
        after = load_file(weights)
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_calibrate_without_a_baseline_says_what_to_run(tmp_path: Path, params: Params) -> None:
    with pytest.raises(ArtifactError, match="hscc train"):
        calibrate.run(params, tmp_path)


def test_balanced_sample_takes_as_many_of_each_class() -> None:
    labels = np.repeat([0, 1, 2, 3], [50, 50, 8, 50])
    rows = balanced_sample(labels, 68, 0)
    assert np.bincount(labels[rows]).tolist() == [20, 20, 8, 20]
    assert len(set(rows.tolist())) == 68
    assert len(balanced_sample(labels, 500, 0)) == 158
