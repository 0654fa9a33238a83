"""The whole graph on drawn pictures of 32 x 32 with several labels, and with values, by parameters alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hscc.pipeline import layout
from hscc.pipeline.commands import predict, promote
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
from hscc.pipeline.statistics.schema import read_results
from tests.pipeline.committed import committed
from tests.pipeline.specs import BRAIN

SIDE, IMAGES = 32, 120
CELL = "hscc-macs2-seed0"
TABLE = {"file": "table.csv", "path": "path", "split": None, "group": None}
LABELS = {
    "task": "multilabel", "table": {**TABLE, "label": ["disc", "square"]}, "classes": ["disc", "square"],
}  # fmt: skip
VALUES = {
    "task": "regression", "table": {**TABLE, "label": ["across", "grey"]}, "classes": ["across", "grey"],
}  # fmt: skip


def draw(count: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Noise, with a disc, a square, both or neither; as values the side of the square and its grey level."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, SIDE, SIDE), dtype=np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    table = []
    for number, image in enumerate(images):
        disc, square = number % 2 == 0, number % 4 > 1
        side, grey = int(rng.integers(4, 14)) if square else 0, int(rng.integers(80, 190))
        image[16 : 16 + side, 2 : 2 + side] += np.uint8(grey)
        if disc:
            image[(rows - 8) ** 2 + (columns - 23) ** 2 < 36] += 120
        table.append((f"{number}.png", int(disc), int(square), 1000 + 10.5 * side, grey * square))
    return images, pd.DataFrame(table, columns=["path", "disc", "square", "across", "grey"])


def params(**data: object) -> Params:
    score = {"multilabel": "roc_auc", "regression": "r2"}[str(data["task"])]
    return committed(
        data={
            "layout": "table", "official": None, "protocol": "grouped", "image_size": SIDE, "plausible": None,
            "normalisation": {"mean": [0.3], "std": [0.25]}, "remarks": [], "near_duplicate": 0.9999,
            "texts": {**BRAIN.texts.model_dump(), "classes": {}, "image": "picture"},
            "augmentation": {"flip": False, "flip_up_down": False, "rotation": 0, "shift": 0, "zoom": 0,
                             "outside": "black"},
            **data,
        },
        validate={"min_side": 8, "min_per_class": 5},
        train={
            "backbone": "network:build", "epochs": 6, "batch_size": 8, "precision": "fp32", "learning_rate": 1e-2,
            "label_smoothing": 0,
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
        bench={"runtimes": ["engine", "onnxruntime"], "batches": [1], "threads": 1, "repeats": 5, "seconds": 0.01},
        evaluate={"resamples": 100, "score": score},
        insight={"cells": [CELL], "images": 8, "gallery": 4},
        register={"name": str(data["task"]), "max_drop": 1.0, "min_macs_ratio": 1.0, "min_speedup": 0.0},
        promote={"min_recall": 0.0, "margin": 0.99, "min_images": 2, "min_macs_ratio": 1.0, "min_speedup": 0.0},
    )  # fmt: skip


NETWORK = """
from torch import nn


def build(classes):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveMaxPool2d(4), nn.Flatten(), nn.Linear(512, classes),
    )
"""


def graph(settings: Params, workspace: Path) -> None:
    validate.run(settings, workspace)
    train.run(settings, workspace, protocol="grouped")
    calibrate.run(settings, workspace)
    (cell,) = settings.compress.cells
    compress.run(settings, workspace, cell=cell)
    for stage in (quantise, bench, tradeoff, evaluate, insight, register, report):
        stage.run(settings, workspace)


def make(task: dict[str, object], empty_store: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    shutil.copy(empty_store, root)
    (root / "network.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(root))
    images, table = draw(IMAGES, 0)
    (root / layout.DATA).mkdir()
    for name, image in zip(table["path"], images, strict=True):
        Image.fromarray(image).save(root / layout.DATA / name)
    table.to_csv(root / layout.DATA / "table.csv", index=False)
    settings = params(**task)
    graph(settings, root)
    return settings


@pytest.mark.filterwarnings("ignore:.*calibration images are few")
def test_labels(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make(LABELS, empty_store, tmp_path, monkeypatch)
    results = read_results(tmp_path / layout.RESULTS_JSON)
    print(results.dense().scores, results.chosen().scores, results.chosen().kl)
    file = tmp_path / layout.DATA / "2.png"
    _, (answer,) = predict.run(settings, [file], tmp_path, which="challenger", heatmaps=tmp_path / "heat")
    print(answer)
    print(promote.consider(settings, tmp_path).lines)


@pytest.mark.filterwarnings("ignore:.*calibration images are few")
def test_values(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make(VALUES, empty_store, tmp_path, monkeypatch)
    results = read_results(tmp_path / layout.RESULTS_JSON)
    print(results.dense().scores, results.chosen().scores, results.chosen().kl)
    file = tmp_path / layout.DATA / "2.png"
    _, (answer,) = predict.run(settings, [file], tmp_path, which="challenger")
    print(answer)
    print(promote.consider(settings, tmp_path).lines)
