"""A workspace as evaluate leaves it, small enough to be registered within a test."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from hscc.budgets.budget import Budget
from hscc.pipeline import layout
from hscc.pipeline.data.manifest import COLUMNS
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.params import Params
from hscc.pipeline.statistics.predictions import to_parquet
from hscc.pipeline.statistics.schema import Requirements, write_record
from hscc.plans import Plan
from tests.pipeline.committed import committed
from tests.pipeline.rows import results, row

NAME = "hscc-tiny"
DATA_HASH = "440a20f27877ad996e95c9e6d1d13da5.dir"
IMAGES = 120  # of the test split
SIDE = 16
PLAN = Plan("hscc", {}, Budget(macs=6), 0, 600, 60, 100, 10, (), {"classifier": "nothing to gain"})


def params(**promote: Any) -> Params:
    """Give the parameters of the registry; keyword arguments replace those of the policy."""
    return committed(
        data={"image_size": SIDE},
        register={"name": NAME, "min_speedup": 1.0},
        promote={"min_images": 50, **promote},
        evaluate={"resamples": 200},
    )


def save_network(path: Path, seed: int = 0) -> str:
    """Write a linear network of four classes and give the hash of its file."""
    weight = np.random.default_rng(seed).normal(size=(3 * SIDE * SIDE, 4)).astype(np.float32) / SIDE
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_results(workspace: Path, *, wrong: int = 12, network: int = 0, phantom: bool = False, **changes: Any) -> str:
    """Write cell, results, predictions and manifest; the network errs on its first `wrong` images, dense on 12."""
    cell = workspace / layout.cell("hscc-macs6-seed0")
    sha256 = save_network(cell / "model.onnx", network)
    (cell / "plan.json").write_text(PLAN.to_json())
    found = results(
        row(model_sha256=sha256, **changes),
        row("tucker", macs_ratio=1.5),
        phantom=phantom,
        requirements=Requirements(max_drop=0.01, min_macs_ratio=2.0, min_speedup=1.0),
    )
    path = workspace / layout.RESULTS_JSON
    path.parent.mkdir(exist_ok=True)
    path.write_text(write_record(found))
    paths = [f"Testing/{number:03}.jpg" for number in range(IMAGES)]
    labels = [CLASSES[number % 4] for number in range(IMAGES)]
    answers = {
        "dense-grouped": _answers(labels, 12),
        "hscc-macs6-seed0": _answers(labels, wrong),
        "tucker-macs6-seed0": _answers(labels, 40),
    }
    images = pd.DataFrame({"path": paths, "protocol": "grouped", "label": labels, "group": range(IMAGES)})
    predictions = [
        images.assign(network=name, **{f"logit_{one}": [float(answer == one) for answer in given] for one in CLASSES})
        for name, given in answers.items()
    ]
    (workspace / layout.PREDICTIONS).write_bytes(to_parquet(pd.concat(predictions)))
    manifest = pd.DataFrame({name: [0] * IMAGES for name in COLUMNS})
    manifest["path"], manifest["label"], manifest["group"] = paths, labels, range(IMAGES)
    manifest["sha256"] = [hashlib.sha256(path.encode()).hexdigest() for path in paths]
    manifest["decodable"], manifest["conflict"] = True, False
    manifest.to_csv(workspace / layout.MANIFEST, index=False)
    return sha256


def head(seed: int = 0, side: int = 96) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw bright matter in dark air."""
    rows, columns = np.mgrid[:side, :side] / side - 0.5
    inside = (rows**2 + columns**2) < 0.14
    noise = np.random.default_rng(seed).integers(90, 220, size=(side, side))
    return np.where(inside, noise, 5).astype(np.uint8)


def _answers(labels: list[str], wrong: int) -> list[str]:
    others = [CLASSES[(CLASSES.index(label) + 1) % 4] for label in labels]
    return [
        other if number < wrong else label for number, (label, other) in enumerate(zip(labels, others, strict=True))
    ]
