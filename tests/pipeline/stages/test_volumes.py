"""The whole graph on drawn volumes of 16 x 16 x 16, by parameters alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hscc.errors import DataError
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.benchmark.peak_memory import Peaks
from hscc.pipeline.commands import predict
from hscc.pipeline.data.formats.levels import resize_volume
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params
from hscc.pipeline.stages import (
    bench,
    calibrate,
    compress,
    evaluate,
    insight,
    quantise,
    register,
    report,
    tradeoff,
    train,
    validate,
)
from tests.pipeline.committed import committed
from tests.pipeline.drawn_volumes import SIDE, draw
from tests.pipeline.specs import BRAIN

PARTS = {"train": 32, "val": 12, "test": 16}
CELL = "hscc-macs3-seed0"


def params() -> Params:
    return committed(
        data={
            "layout": "arrays", "official": {"train": "train", "val": "val", "test": "test"}, "protocol": "official",
            "classes": ["small", "large"], "image_size": [SIDE] * 3, "normalisation": {"mean": [0.15], "std": [0.2]},
            "plausible": None, "texts": {**BRAIN.texts.model_dump(), "classes": {}, "image": "volume"}, "remarks": [],
            "near_duplicate": 0.9999,
        },
        validate={"min_side": 8, "modes": ["uint8"], "min_per_class": 5},
        train={
            "protocols": ["official"], "backbone": "tests.pipeline.drawn_volumes:build", "epochs": 2, "batch_size": 8,
            "precision": "fp32", "learning_rate": 1e-2,
        },
        calibrate={"images": 32, "cells": 2, "batch_size": 16},
        compress={
            "cells": [CELL], "refit": {"images": 16, "rounds": 1},
            "finetune": {
                "epochs": 1, "batch_size": 8, "learning_rates": [1e-4], "trial_steps": 1, "patience": 1, "mixup": 1.0,
                "temperature": 2.0, "precision": "fp32",
            },
        },
        quantise={"images": 8},
        bench={"batches": [1], "threads": 1, "repeats": 5, "seconds": 0.01},
        evaluate={"resamples": 100, "score": "roc_auc"},
        insight={"cells": [CELL], "images": 8, "gallery": 4},
        register={"name": "volumes", "max_drop": 1.0, "min_macs_ratio": 1.0, "min_speedup": 0.0},
    )  # fmt: skip


@pytest.fixture(scope="module")
def workspace(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("volumes")
    shutil.copy(empty_store, root)
    arrays = {}
    for seed, (part, count) in enumerate(PARTS.items()):
        arrays[f"{part}_images"], arrays[f"{part}_labels"] = draw(count, seed)
    (root / layout.DATA).mkdir()
    np.savez_compressed(root / layout.DATA / "balls.npz", **arrays)
    return root


@pytest.mark.filterwarnings("ignore:.*calibration images are few")
def test_the_graph_runs_on_volumes(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hscc.pipeline.benchmark.measurement.peak_memory", lambda *_: Peaks(30.0, {1: 20.0}))
    settings = params()
    validate.run(settings, workspace)
    manifest = read_manifest(workspace / layout.MANIFEST)
    assert manifest["depth"].eq(SIDE).all() and manifest["mode"].eq("uint8").all()
    assert manifest["split_official"].value_counts().to_dict() == PARTS
    train.run(settings, workspace, protocol="official")
    card = load_dense(workspace / layout.baseline("official") / "model.safetensors")[1]
    assert card.input_shape == (1, SIDE, SIDE, SIDE)
    calibrate.run(settings, workspace)
    (cell,) = settings.compress.cells
    compress.run(settings, workspace, cell=cell)
    metrics = json.loads((workspace / layout.cell(CELL) / "metrics.json").read_text())
    dense = json.loads((workspace / layout.train_metrics("official")).read_text())
    assert 3 * metrics["macs"] <= dense["macs"]
    quantise.run(settings, workspace)
    bench.run(settings, workspace)
    assert "not timed in engine" in capsys.readouterr().out
    tradeoff.run(settings, workspace)
    evaluate.run(settings, workspace)
    insight.run(settings, workspace)
    found = json.loads((workspace / layout.INSIGHT_JSON).read_text())
    assert {path.name for path in (workspace / layout.INSIGHT).iterdir()} >= {
        picture["picture"] for picture in found["cams"]["pictures"]
    }
    register.run(settings, workspace)
    assert json.loads((workspace / layout.REGISTRATION).read_text())["registered"] == CELL
    report.run(settings, workspace)
    assert CELL in (workspace / layout.REPORT).read_text(encoding="utf-8")


def test_a_registered_version_classifies_volumes_of_any_size(workspace: Path, tmp_path: Path) -> None:
    volume = draw(1, 9)[0][0]
    smooth = gaussian_filter(
        volume, 3
    )  # resampling blurs the noise, which a network may go by; of this it takes nothing
    drawn = {
        "large": _doubled(volume), "resized": resize_volume(_doubled(volume), (SIDE,) * 3),
        "smooth": smooth, "large smooth": _doubled(smooth),
    }  # fmt: skip
    for name, levels in drawn.items():
        np.save(tmp_path / f"{name}.npy", levels)
    files = [*(tmp_path / f"{name}.npy" for name in drawn), workspace / layout.DATA / "balls.npz#test/0"]
    _, answers = predict.run(params(), files, workspace, which="challenger")
    large, resized, own, large_smooth, row = ([*answer.probabilities.values()] for answer in answers)
    assert all(abs(sum(found) - 1) < 1e-5 for found in (large, own, large_smooth, row))
    np.testing.assert_allclose(large, resized, atol=1e-6)
    np.testing.assert_allclose(large_smooth, own, atol=0.02)
    np.save(tmp_path / "flat.npy", volume[0])
    with pytest.raises(DataError, match=r"flat\.npy is no volume"):
        predict.run(params(), [tmp_path / "flat.npy"], workspace, which="challenger")


def _doubled(volume: np.ndarray) -> np.ndarray:
    return volume.repeat(2, 0).repeat(2, 1).repeat(2, 2)


def save(folder: Path, volumes: np.ndarray) -> None:
    (folder / layout.DATA).mkdir()
    labels = np.arange(len(volumes)) % 2
    np.savez(folder / layout.DATA / "a.npz", **{
        f"{part}_{kind}": values
        for part in PARTS for kind, values in (("images", volumes), ("labels", labels))
    })  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda volumes: np.where(volumes > 200, np.nan, volumes), r"NaN or infinite values in: a\.npz#.*repair"),
        (lambda volumes: volumes.astype(np.int16), r"pixel mode not one of uint8"),
        (lambda volumes: volumes[:, :4], r"depth not 8 to 4096 pixels"),
        (lambda volumes: volumes[:, 0], r"no volumes of three axes: a\.npz#test/0"),
    ],
)
def test_what_is_no_volume_as_the_spec_says_is_named(
    empty_store: Path, tmp_path: Path, spoil: object, words: str
) -> None:
    shutil.copy(empty_store, tmp_path)
    save(tmp_path, spoil(draw(12, 0)[0]))  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        validate.run(params(), tmp_path)
