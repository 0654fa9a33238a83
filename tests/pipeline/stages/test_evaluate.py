from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import f1_score

from hscc.errors import ArtifactError
from hscc.pipeline import layout
from hscc.pipeline.benchmark.measurement import Bench, BenchRow
from hscc.pipeline.benchmark.peak_memory import Peaks
from hscc.pipeline.data.manifest import COLUMNS, write_manifest
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.stages import bench, evaluate, quantise
from hscc.pipeline.stages.evaluate import run
from hscc.pipeline.statistics.bootstrap import resample, resampled_mean, standard_error
from hscc.pipeline.statistics.predictions import classes_of, logits_of, predictions_of, read_predictions
from hscc.pipeline.statistics.schema import NetworkRow, read_results
from hscc.pipeline.tracking import tracking_uri
from tests.pipeline.committed import committed

SIDE = 16
PER_CLASS = 8
METHODS = ("tucker", "hscc")
PARAMS = committed(
    data={"image_size": SIDE},
    train={"protocols": ["grouped", "pooled"]},
    compress={"cells": [f"{method}-macs{budget}-seed0" for budget in (2, 4) for method in METHODS]},
    quantise={"images": 16},
    bench={"runtimes": ["onnxruntime"], "batches": [1, 40], "threads": 1, "repeats": 3, "seconds": 5.0},
    evaluate={"resamples": 100},
)
OUTPUTS = (
    layout.RESULTS_CSV, layout.RESULTS_JSON, layout.PREDICTIONS, layout.CONFUSION, layout.PARETO, layout.ABLATION,
)  # fmt: skip


def save_network(path: Path, weight: np.ndarray) -> None:
    """Save a network whose logits are a linear map of the mean brightness of the image's quarters."""
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def write_images(workspace: Path) -> None:
    """Write images of which the class's own quarter is bright, and their manifest."""
    rng = np.random.default_rng(0)
    rows = []
    for index, label in enumerate(CLASSES):
        for number in range(PER_CLASS):
            pixels = rng.normal(90, 40, (SIDE, SIDE))
            y, x = divmod(index, 2)
            pixels[8 * y : 8 * y + 8, 8 * x : 8 * x + 8] += 12
            path = f"Training/{label}/image ({number}).png"
            (workspace / layout.DATA / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(workspace / layout.DATA / path)
            splits = ("test" if number >= 2 else ("train", "val")[number], "test" if number >= 4 else "train", "train")
            rows.append(
                (path, label, "Training", SIDE, SIDE, "L", 1, f"{index}{number}", "", True, len(rows), False, *splits)
            )
    write_manifest(pd.DataFrame(rows, columns=list(COLUMNS)), workspace / layout.MANIFEST)


def write_networks(workspace: Path) -> None:
    rng = np.random.default_rng(1)
    ideal = np.tile(np.eye(4), (3, 1))
    for protocol in ("grouped", "pooled"):
        folder = workspace / layout.baseline(protocol)
        save_network(folder / "model.onnx", ideal)
        facts = {"protocol": protocol, "seed": 0, "macs": 1000, "params": 200, "val_accuracy": 0.9}
        (folder / "metrics.json").write_text(json.dumps(facts))
    for method in METHODS:
        for budget in (2.0, 4.0):
            folder = workspace / layout.cell(f"{method}-macs{budget:g}-seed0")
            save_network(folder / "model.onnx", ideal + 0.1 * budget * rng.normal(size=ideal.shape))
            facts = {
                "method": method, "budget": budget, "seed": 0, "protocol": "grouped", "macs": int(1000 / budget),
                "params": 100, "predicted_loss": 0.1, "val_accuracy": 0.9 - 0.1 * (method == "hscc"), "val_kl": 0.1,
                "val_accuracy_before": 0.8, "val_kl_before": 0.2,
            }  # fmt: skip
            (folder / "metrics.json").write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def evaluated(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace of 32 images and six networks, evaluated; a cell that the parameters do not name lies about."""
    workspace = tmp_path_factory.mktemp("workspace")
    write_images(workspace)
    write_networks(workspace)
    stale = workspace / layout.cell("svd_of_yesterday-macs9-seed0")
    stale.mkdir()
    (stale / "metrics.json").write_text("{}")
    quantise.run(PARAMS, workspace)
    with pytest.MonkeyPatch.context() as patch:  # a process a network takes seconds
        patch.setattr("hscc.pipeline.benchmark.measurement.peak_memory", lambda *_: Peaks(30.0, {1: 20.0, 40: 25.0}))
        bench.run(PARAMS, workspace)
    run(PARAMS, workspace)
    return workspace


@pytest.fixture
def workspace(evaluated: Path, empty_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated, tmp_path / "workspace", ignore=shutil.ignore_patterns("mlruns", "mlflow.db"))
    shutil.copy(empty_store, tmp_path / "workspace")
    return tmp_path / "workspace"


def read_rows(workspace: Path) -> dict[str, NetworkRow]:
    return {row.name: row for row in read_results(workspace / layout.RESULTS_JSON).rows}


def test_every_network_the_parameters_name_has_a_row_and_no_other(evaluated: Path) -> None:
    cells = ["tucker-macs2-seed0", "hscc-macs2-seed0", "tucker-macs4-seed0", "hscc-macs4-seed0"]
    variants = [f"{name}-int8" for name in ("dense-grouped", *cells)]
    assert list(read_rows(evaluated)) == ["dense-grouped", *cells, "dense-pooled", *variants]


def test_csv_and_json_hold_the_same_table(evaluated: Path) -> None:
    table = pd.read_csv(evaluated / layout.RESULTS_CSV)
    rows = read_rows(evaluated).values()
    np.testing.assert_allclose(table["macro_f1"], [row.scores["macro_f1"].value for row in rows], rtol=1e-5)
    assert {
        "method", "budget_macs", "budget_params", "budget_latency", "seed", "protocol", "precision", "macs", "params",
        "macs_ratio", "params_ratio", "size_bytes", "accuracy", "accuracy_se", "accuracy_low", "macro_f1",
        "f1_no_tumor", "f1_no_tumor_se", "kl", "latency_ms_b1", "speedup_b1", "latency_ms_b40", "speedup_b40",
        "efficiency_b40", "peak_mb_b40", "data_hash", "git_commit",
    } <= set(table.columns)  # fmt: skip


def test_scores_can_be_computed_again_from_the_predictions(evaluated: Path) -> None:
    predictions = read_predictions(evaluated / layout.PREDICTIONS)
    rows = read_rows(evaluated)
    assert classes_of(predictions) == CLASSES
    for name in ("dense-grouped", "hscc-macs4-seed0"):
        answers = predictions_of(predictions, name)
        probabilities = softmax(logits_of(answers).astype(np.float64), axis=1)
        assert len(answers) == rows[name].n_test == 24
        assert (answers["predicted"] == answers["label"]).mean() == pytest.approx(rows[name].primary.value)
        assert f1_score(answers["label"], answers["predicted"], average="macro") == pytest.approx(
            rows[name].scores["macro_f1"].value
        )
        brier = (
            np.square(probabilities - (answers["label"].to_numpy()[:, None] == np.array(CLASSES))).sum(axis=1).mean()
        )
        assert brier == pytest.approx(rows[name].scores["brier"].value)
        images = resample(answers["group"].to_numpy(), 100, 0)
        correct = (answers["predicted"] == answers["label"]).to_numpy(float)
        assert standard_error(resampled_mean(correct, images)) == pytest.approx(rows[name].primary.se)
    pooled = predictions[predictions["protocol"] == "pooled"]
    assert len(pooled) == rows["dense-pooled"].n_test == 16
    assert set(pooled["network"]) == {"dense-pooled"}
    assert "hscc-macs4-seed0-int8" in set(predictions["network"])


def test_confusion_is_of_the_chosen_network(evaluated: Path) -> None:
    confusion = pd.read_csv(evaluated / layout.CONFUSION)
    predictions = read_predictions(evaluated / layout.PREDICTIONS)
    chosen = read_results(evaluated / layout.RESULTS_JSON).chosen().name
    assert set(confusion["network"]) == {chosen}
    assert confusion["predicted"].tolist() == predictions_of(predictions, chosen)["predicted"].tolist()
    assert confusion["dense"].tolist() == predictions_of(predictions, "dense-grouped")["predicted"].tolist()


def test_the_ablation_is_a_table_of_its_own(evaluated: Path) -> None:
    table = pd.read_csv(evaluated / layout.ABLATION)
    results = read_results(evaluated / layout.RESULTS_JSON)
    assert table["method"].tolist() == ["hscc", "hscc"]
    assert table["accuracy"].tolist() == pytest.approx([row.primary.value for row in results.ablation], rel=1e-5)
    assert table["val_kl_before"].tolist() == [0.2, 0.2]


def test_pareto_has_a_point_a_network_of_the_protocol(evaluated: Path) -> None:
    frame = pd.read_csv(evaluated / layout.PARETO)
    assert frame["method"].tolist() == ["dense", "tucker", "hscc", "tucker", "hscc"]
    assert frame["macs_ratio"].tolist() == [1.0, 2.0, 2.0, 4.0, 4.0]


def test_the_results_say_where_they_come_from(evaluated: Path) -> None:
    results = read_results(evaluated / layout.RESULTS_JSON)
    assert (results.protocol, results.seed, results.resamples) == ("grouped", 0, 100)
    assert results.phantom is False
    assert results.data_hash == "unknown"
    assert set(results.clock) == {"b1", "b40"}
    assert [pair.difference.against for pair in results.comparisons] == ["tucker", "tucker"]
    assert results.headline["hscc-macs2-seed0"]["macs_ratio"] == 2.0
    assert results.requirements.min_macs_ratio == PARAMS.register_.min_macs_ratio
    assert results.seeds == ()


def test_each_network_has_a_run_below_the_stage_s_own(evaluated: Path) -> None:
    client = MlflowClient(tracking_uri(evaluated))
    experiment = client.get_experiment_by_name("hscc")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [found for found in runs if found.info.run_name == "evaluate-grouped"]
    children = {found.info.run_name: found for found in runs if "mlflow.parentRunId" in found.data.tags}
    assert len(children) == 11
    child = children["evaluate-hscc-macs4-seed0"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert read_results(evaluated / layout.RESULTS_JSON).run_ids == {"evaluate": parent.info.run_id}
    asked = {name: child.data.tags[name] for name in ("method", "budget_macs", "protocol")}
    assert asked == {"method": "hscc", "budget_macs": "4", "protocol": "grouped"}
    assert child.data.metrics["accuracy"] == pytest.approx(read_rows(evaluated)["hscc-macs4-seed0"].primary.value)
    assert "results.json" in {entry.path for entry in client.list_artifacts(parent.info.run_id)}


def test_int8_variants_are_scored_and_timed_like_any_network(evaluated: Path) -> None:
    rows = read_rows(evaluated)
    variant, source = rows["hscc-macs4-seed0-int8"], rows["hscc-macs4-seed0"]
    assert variant.model_sha256 != source.model_sha256
    assert variant.primary.value == pytest.approx(source.primary.value, abs=0.1)
    assert variant.macs == source.macs and variant.timing(40).ms > 0
    assert variant.timing(1).efficiency == pytest.approx(variant.timing(1).speedup / 4)


def test_a_network_that_was_not_the_one_timed_is_refused(workspace: Path) -> None:
    folder = workspace / layout.cell("hscc-macs2-seed0")
    shutil.copy(workspace / layout.cell("hscc-macs4-seed0") / "model.onnx", folder / "model.onnx")
    params = PARAMS.model_copy(update={"quantise": PARAMS.quantise.model_copy(update={"enabled": False})})
    with pytest.raises(ArtifactError, match="is not the file that was timed; run `hscc bench`"):
        run(params, workspace)


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        (layout.cell("hscc-macs2-seed0"), "hscc compress hscc-macs2-seed0"),
        (layout.baseline("pooled"), "hscc train --protocol pooled"),
        (layout.MANIFEST, "hscc validate"),
        (layout.BENCH_JSON, "hscc bench"),
        (layout.int8_variant("hscc-macs2-seed0"), "hscc quantise"),
    ],
)
def test_what_is_missing_is_named_and_earlier_outputs_stay(workspace: Path, missing: Path, command: str) -> None:
    before = {path: (workspace / path).read_bytes() for path in OUTPUTS}
    shutil.move(workspace / missing, workspace / "elsewhere")
    with pytest.raises(ArtifactError, match=command):
        run(PARAMS, workspace)
    assert {path: (workspace / path).read_bytes() for path in OUTPUTS} == before


def test_the_engine_serves_where_it_runs_every_network_but_int8_variants() -> None:
    def timed(*rows: tuple[str, str]) -> Bench:
        return Bench.model_construct(
            rows=[BenchRow.model_construct(network=network, runtime=runtime) for network, runtime in rows]
        )

    rows = [("dense", "engine"), ("x", "engine"), ("x", "onnxruntime"), ("x-int8", "onnxruntime")]
    assert evaluate._served("auto", timed(*rows)) == "engine"
    assert evaluate._served("auto", timed(*rows, ("y", "onnxruntime"))) == "onnxruntime"
    assert evaluate._served("torch", timed(*rows)) == "torch"
