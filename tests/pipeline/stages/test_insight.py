"""The stage insight on phantom slices, a small untrained network and two cells of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import calibrate
from hscc.errors import ArtifactError
from hscc.methods import HSCC, GlobalSVD
from hscc.networks.backbones import build
from hscc.networks.storage import ModelCard, save_dense
from hscc.pipeline import layout
from hscc.pipeline.data.manifest import COLUMNS, write_manifest
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.data.phantom.slices import draw_slice
from hscc.pipeline.params import Params
from hscc.pipeline.stages import insight
from hscc.pipeline.statistics.predictions import LOGIT
from hscc.storage import Origin, save
from hscc.training.images import to_input
from tests.pipeline.committed import committed

SIDE = 64
SPLITS = ("train", "train", "val", "val", "test", "test", "test")
REGIONAL, PLAIN = "hscc-macs2-seed0", "global_svd-macs2-seed0"


def params(*cells: str, gallery: int = 3) -> Params:
    return committed(
        data={"image_size": SIDE},
        compress={"cells": [PLAIN, REGIONAL]},
        evaluate={"resamples": 100},
        insight={"cells": cells, "images": 6, "gallery": gallery},
    )


def write_images(workspace: Path) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    rows, images = [], []
    for index, label in enumerate(CLASSES):
        for number, split in enumerate(SPLITS):
            path = f"Training/{label}/{number}.png"
            images.append(np.asarray(Image.fromarray(draw_slice(label, rng, SIDE)).resize((SIDE, SIDE))))
            (workspace / layout.DATA / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[-1]).save(workspace / layout.DATA / path)
            sha256 = f"{index}{number}".zfill(64)
            rows.append(
                (path, label, "Training", SIDE, SIDE, "L", 1, sha256, "", True, len(rows), False, split, split, split)
            )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    write_manifest(frame, workspace / layout.MANIFEST)
    return frame, np.stack(images)


def write_networks(workspace: Path, images: np.ndarray) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    dense = build("smallcnn", len(CLASSES)).eval()
    card = ModelCard("smallcnn", CLASSES, SIDE, "grouped", 0)
    save_dense(dense, card, workspace / layout.baseline("grouped") / "model.safetensors")
    calibration = calibrate(dense, to_input(np.tile(images, (2, 1, 1))).split(28), cells=2)
    networks = {"dense-grouped": dense}
    for name, method in ((REGIONAL, HSCC(regions=2, clusters=2, projection=None)), (PLAIN, GlobalSVD())):
        networks[name] = apply(dense, plan(dense, calibration, method, Budget(macs=2, only=True), 0)).eval()
        folder = workspace / layout.CELLS / name
        save(networks[name], folder, Origin("smallcnn", len(CLASSES)))
        (folder / "model.onnx").write_bytes(b"not looked into")
        facts = {"method": name.split("-")[0], "budget": 2, "seed": 0, "protocol": "grouped", "macs": 1, "params": 1}
        (folder / "metrics.json").write_text(
            json.dumps({**facts, "predicted_loss": 0.1, "val_accuracy": 0.9, "val_kl": 0.1})
        )
    return networks


def write_predictions(workspace: Path, frame: pd.DataFrame, networks: dict[str, nn.Module]) -> None:
    test = frame[frame["split_grouped"] == "test"]
    parts = []
    for number, name in enumerate(networks):
        # Made up, so that some answers differ: the network as it is says the same of all.
        logits = np.random.default_rng(number).normal(size=(len(test), len(CLASSES)))
        answers = pd.DataFrame(logits, columns=[f"{LOGIT}{label}" for label in CLASSES], index=test.index)
        parts.append(
            pd.concat([test[["path", "label", "group"]].assign(protocol="grouped", network=name), answers], axis=1)
        )
    (workspace / layout.PREDICTIONS).parent.mkdir(parents=True, exist_ok=True)
    pd.concat(parts).to_parquet(workspace / layout.PREDICTIONS, index=False)


@pytest.fixture(scope="module", autouse=True)
def recorded() -> Iterator[MagicMock]:
    """A recorder in the place of MLflow, whose database takes seconds to make."""
    run_of_stage = MagicMock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(insight, "stage_run", lambda *_: nullcontext(run_of_stage))
        yield run_of_stage


@pytest.fixture(scope="module")
def looked_into(recorded: MagicMock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("workspace")
    frame, images = write_images(workspace)
    write_predictions(workspace, frame, write_networks(workspace, images))
    insight.run(params(PLAIN, REGIONAL), workspace)
    recorded.artifact.assert_called_once_with(workspace / layout.INSIGHT_JSON)
    return workspace


@pytest.fixture
def workspace(looked_into: Path, tmp_path: Path) -> Path:
    shutil.copytree(looked_into, tmp_path / "workspace")
    return tmp_path / "workspace"


def read(workspace: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace / layout.INSIGHT_JSON).read_text())
    return document


def test_the_first_cell_with_regions_is_looked_into(looked_into: Path) -> None:
    document = read(looked_into)
    assert document["network"] == REGIONAL and document["protocol"] == "grouped"
    assert [entry["network"] for entry in document["networks"]] == [PLAIN, REGIONAL]
    assert document["networks"][0]["words"].startswith("no layer has regions")
    drawn = [entry for entry in document["layers"] if entry["picture"]]
    assert drawn and all(np.shape(entry["rank_map"]) == (2, 2) for entry in drawn)
    assert all(0 <= share <= 1 for entry in drawn for row in entry["rank_map"] for share in row)
    assert document["images"] == {"mean": 8, "importance": 6, "test": 12}
    (swept,) = document["sweep"]
    assert swept["network"] == REGIONAL and 0 < swept["kept"] <= swept["clusters"]
    assert len(document["importance"]) == swept["kept"]
    assert all(len(row["per_class"]) == len(CLASSES) for row in document["importance"])


def test_every_picture_is_there_and_no_other(looked_into: Path) -> None:
    document = read(looked_into)
    shown = [*document["layers"], *document["importance_pictures"], *document["cams"]["pictures"], *document["flips"]]
    named = {entry["picture"] for entry in shown} - {None}
    assert named == {path.name for path in (looked_into / layout.INSIGHT).iterdir()}
    for name in named:
        with Image.open(looked_into / layout.INSIGHT / name) as picture:
            assert picture.format == "PNG" and picture.width >= 168


def test_maps_are_compared_for_every_network_and_class(looked_into: Path) -> None:
    cams = read(looked_into)["cams"]
    assert (cams["layer"], cams["at"], cams["method"]) == ("12", "14", "Grad-CAM")
    assert [(row["network"], row["label"]) for row in cams["similarity"]] == [
        (name, label) for name in (PLAIN, REGIONAL) for label in CLASSES
    ]
    assert all(row["n"] <= 3 and -1 <= row["mean"] <= 1 for row in cams["similarity"])
    assert {row["dense_predicted"] for row in cams["pictures"]} <= set(CLASSES)


def test_flips_are_those_of_the_kept_logits(looked_into: Path) -> None:
    document = read(looked_into)
    frame = pd.read_parquet(looked_into / layout.PREDICTIONS)
    logits = {name: part.filter(like=LOGIT).to_numpy() for name, part in frame.groupby("network")}
    labels = frame[frame["network"] == PLAIN]["label"].to_numpy()
    said = np.asarray(CLASSES)[logits["dense-grouped"].argmax(1)]
    for entry in document["flip_counts"]:
        says = np.asarray(CLASSES)[logits[entry["network"]].argmax(1)]
        assert entry["flips"] == (said != says).sum() == entry["lost"] + entry["gained"] + entry["other"]
        assert entry["lost"] == ((said != says) & (said == labels)).sum()
        assert sum(flip["network"] == entry["network"] for flip in document["flips"]) == 3
    for flip in document["flips"]:
        assert sum(flip["dense"].values()) == pytest.approx(1, abs=1e-3)
        assert max(flip["dense"], key=flip["dense"].get) != max(flip["small"], key=flip["small"].get)


def test_no_cells_named_means_the_first_with_regions(workspace: Path) -> None:
    insight.run(params(gallery=0), workspace)
    document = read(workspace)
    assert [entry["network"] for entry in document["networks"]] == [REGIONAL]
    assert document["flips"] == [] and not list((workspace / layout.INSIGHT).glob("flip-*"))


def test_a_cell_that_is_not_there_is_named_and_earlier_outputs_stay(workspace: Path) -> None:
    before = (workspace / layout.INSIGHT_JSON).read_bytes()
    with pytest.raises(
        ArtifactError,
        match=r"insight\.cells in params\.yaml names hscc-macs9-seed0.*global_svd-macs2-seed0, hscc-macs2-seed0",
    ):
        insight.run(params("hscc-macs9-seed0"), workspace)
    assert (workspace / layout.INSIGHT_JSON).read_bytes() == before
    assert any((workspace / layout.INSIGHT).iterdir())


def test_logits_of_other_images_are_refused(workspace: Path) -> None:
    frame = pd.read_parquet(workspace / layout.PREDICTIONS)
    frame[frame["path"] != frame["path"].iloc[0]].to_parquet(workspace / layout.PREDICTIONS, index=False)
    with pytest.raises(ArtifactError, match=r"not about the test images.*run `hscc evaluate`"):
        insight.run(params(REGIONAL), workspace)


def test_a_cell_of_another_protocol_is_refused(workspace: Path) -> None:
    path = workspace / layout.CELLS / REGIONAL / "metrics.json"
    path.write_text(path.read_text().replace("grouped", "pooled"))
    with pytest.raises(ArtifactError, match="not about the grouped protocol"):
        insight.run(params(REGIONAL), workspace)
