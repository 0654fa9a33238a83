"""The whole graph on drawn pictures of 32 x 32 with several labels, and with values, by parameters alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from hscc.errors import ParamsError
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.benchmark.peak_memory import Peaks
from hscc.pipeline.commands import export, predict, promote
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
from hscc.pipeline.statistics.predictions import read_predictions
from hscc.pipeline.statistics.schema import read_results
from hscc.pipeline.tasks.registry import task_of
from hscc.pipeline.tracking import tracking_uri
from hscc.pipeline.tracking.store import global_store
from tests.pipeline.committed import committed
from tests.pipeline.drawn_targets import SIDE, write
from tests.pipeline.specs import BRAIN

IMAGES = 120
CELL = "hscc-macs2-seed0"
TABLE = {"file": "table.csv", "path": "path", "split": None, "group": None}
LABELS = {
    "task": "multilabel", "table": {**TABLE, "label": ["disc", "square"]}, "classes": ["disc", "square"],
}  # fmt: skip
VALUES = {
    "task": "regression", "table": {**TABLE, "label": ["across", "grey"]}, "classes": ["across", "grey"],
}  # fmt: skip


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
            "backbone": "tests.pipeline.drawn_targets:build", "epochs": 6, "batch_size": 8, "precision": "fp32",
            "learning_rate": 1e-2, "label_smoothing": 0,
        },
        calibrate={"images": 32, "cells": 2, "batch_size": 16},
        compress={
            "cells": [CELL], "refit": {"images": 16, "rounds": 1},
            "finetune": {
                "epochs": 1, "batch_size": 8, "learning_rates": [1e-4], "trial_steps": 1, "patience": 1, "mixup": 1.0,
                "temperature": 2.0, "precision": "fp32",
            },
        },
        quantise={"enabled": data["task"] == "multilabel", "images": 8},
        bench={"runtimes": ["onnxruntime"], "batches": [1], "threads": 1, "repeats": 5, "seconds": 0.01},
        evaluate={"resamples": 100, "score": score},
        insight={"cells": [CELL], "images": 8, "gallery": 4},
        register={"name": str(data["task"]), "max_drop": 1.0, "min_macs_ratio": 1.0, "min_speedup": 0.0},
        promote={"min_recall": 0.0, "margin": 0.99, "min_images": 2, "min_macs_ratio": 1.0, "min_speedup": 0.0},
    )  # fmt: skip


def make(settings: Params, root: Path, stages: Sequence[ModuleType]) -> None:
    """Run the graph on drawn pictures, with some of its stages after the compression."""
    write(root / layout.DATA, IMAGES)
    validate.run(settings, root)
    train.run(settings, root, protocol="grouped")
    calibrate.run(settings, root)
    compress.run(settings, root, cell=settings.compress.cells[0])
    with pytest.MonkeyPatch.context() as patch:  # a process a network takes seconds
        patch.setattr("hscc.pipeline.benchmark.measurement.peak_memory", lambda *_: Peaks(30.0, {1: 20.0}))
        for stage in stages:
            stage.run(settings, root)


@pytest.fixture(scope="module")
def labelled(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels")
    shutil.copy(empty_store, root)
    make(params(**LABELS), root, (quantise, bench, tradeoff, evaluate, insight, register, report))
    return root


@pytest.fixture(scope="module")
def measured(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("values")
    shutil.copy(empty_store, root)
    make(params(**VALUES), root, (bench, evaluate, insight, register, report))
    return root


@pytest.mark.filterwarnings("ignore:.*calibration images are few")
def test_labels_are_learnt_compressed_and_reported(labelled: Path) -> None:
    manifest = read_manifest(labelled / layout.MANIFEST)
    assert set(manifest["label"]) == {"none", "disc", "square", "disc|square"}
    for split in ("train", "val", "test"):
        held = manifest.loc[manifest["split_grouped"] == split, "label"]
        assert held.str.contains("disc").any() and held.str.contains("square").any() and (held == "none").any()
    results = read_results(labelled / layout.RESULTS_JSON)
    dense, small = results.dense(), results.chosen()
    assert set(dense.scores) == {"roc_auc", "average_precision", "macro_f1", "label_accuracy"}
    assert dense.primary.value is not None and dense.primary.value > 0.9
    assert small.name == CELL and small.against_dense is not None and small.against_dense.primary.low is not None
    assert [(found.name, set(found.scores)) for found in small.classes] == [
        (name, {"roc_auc", "average_precision", "label_accuracy"}) for name in ("disc", "square")
    ]
    assert results.int8_of(small) is not None
    insight_found = json.loads((labelled / layout.INSIGHT_JSON).read_text())
    assert insight_found["layers"] and not insight_found["cams"] and not insight_found["flips"]
    page = (labelled / layout.REPORT).read_text(encoding="utf-8")
    assert "Label by label" in page and "it is not measured for several labels per image" in page


def test_a_registered_version_gives_a_probability_for_each_label(labelled: Path, tmp_path: Path) -> None:
    settings, picture = params(**LABELS), labelled / layout.DATA / "2.png"
    for runtime in ("engine", "onnxruntime"):
        version, answers = predict.run(
            settings, [picture], labelled, which="challenger", heatmaps=tmp_path, runtime=runtime
        )  # fmt: skip
        (answer,) = json.loads(predict.as_json(answers, version))["answers"]
        assert set(answer["probabilities"]) == {"disc", "square"}
        assert answer["labels"] == [name for name, chance in answer["probabilities"].items() if chance >= 0.5]
        assert Path(answer["heatmap"]).is_file()
        assert "labels" in [column.header for column in predict.as_table(answers, version).columns]
    with global_store(tracking_uri(labelled)):
        served = mlflow.pyfunc.load_model("models:/multilabel@challenger")
        table = served.predict(pd.DataFrame({"image": [picture.read_bytes()]}))
    assert list(table) == ["labels", "disc", "square", "notice"]
    assert table["disc"][0] == pytest.approx(answer["probabilities"]["disc"], abs=1e-3)
    proposal = promote.consider(settings, labelled)
    assert proposal.passes and "recall" in {finding.rule for finding in proposal.findings}


@pytest.mark.filterwarnings("ignore:.*calibration images are few")
def test_values_are_learnt_in_their_own_units(measured: Path) -> None:
    results = read_results(measured / layout.RESULTS_JSON)
    dense, small = results.dense(), results.chosen()
    assert results.score == "r2" and dense.primary.value is not None and dense.primary.value > 0.3
    assert small.agreement.value is not None and small.agreement.value > 0.3
    predictions = read_predictions(measured / layout.PREDICTIONS)
    assert predictions["value_across"].between(900, 1300).all()  # a deviation is 50
    errors = (predictions["value_across"] - predictions["true_across"]).abs().groupby(predictions["network"]).mean()
    for row in (dense, small):
        found = {each.name: each.scores["mae"].value for each in row.classes}
        assert found["across"] == pytest.approx(errors[row.name], rel=1e-4)
        assert "mae" not in (row.against_dense.scores if row.against_dense else {})
    page = (measured / layout.REPORT).read_text(encoding="utf-8")
    assert "Value by value" in page and "Values against the true ones" in page


def test_every_form_of_a_network_gives_values(measured: Path, tmp_path: Path) -> None:
    settings, picture = params(**VALUES), measured / layout.DATA / "2.png"
    predictions = read_predictions(measured / layout.PREDICTIONS)
    rows = predictions[predictions["network"] == CELL].set_index("path")
    path = rows.index[0]
    wanted = rows.loc[path, ["value_across", "value_grey"]].to_numpy(float)
    version, answers = predict.run(settings, [measured / layout.DATA / path], measured, which="challenger")
    (answer,) = json.loads(predict.as_json(answers, version))["answers"]
    assert list(answer) == ["name", "values"]
    np.testing.assert_allclose([*answer["values"].values()], wanted, rtol=1e-3)
    for name in ("network.onnx", "network.hscc"):
        export.run(settings, measured, out=tmp_path / name, cell=CELL)
        (found,) = predict.run_file(tmp_path / name, [measured / layout.DATA / path])
        np.testing.assert_allclose([*found.probabilities.values()], wanted, rtol=1e-3)
    with pytest.raises(ParamsError, match="network gives values"):
        predict.run_file(tmp_path / name, [picture], heatmaps=tmp_path)
    proposal = promote.consider(settings, measured)
    assert proposal.passes and "recall" not in {finding.rule for finding in proposal.findings}


def test_weights_that_answer_in_units_are_trained_on(measured: Path) -> None:
    """Their scale is taken out before the training, and put back."""
    settings = params(**VALUES)
    weights = settings.train.model_copy(update={"weights": "trained.safetensors"})
    task = task_of(settings.model_copy(update={"train": weights}))
    model, card = load_dense(measured / layout.baseline("grouped") / "model.safetensors")
    training, _ = task.splits(read_manifest(measured / layout.MANIFEST), card, "grouped", measured)
    learner = task.learner(model, training)
    inputs = torch.rand(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(inputs)
        for network in (learner, task.learnt(learner)):
            torch.testing.assert_close(network.eval()(inputs), wanted, rtol=1e-4, atol=1e-2)
