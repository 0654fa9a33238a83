from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper

from hscc.engine.export import export_engine
from hscc.errors import ArtifactError
from hscc.export.to_onnx import write_onnx
from hscc.networks.backbones import build
from hscc.networks.storage import ModelCard, save_dense
from hscc.pipeline import layout
from hscc.pipeline.benchmark.measurement import read_bench
from hscc.pipeline.benchmark.peak_memory import Peaks
from hscc.pipeline.params import BenchParams, CompressParams
from hscc.pipeline.stages.bench import compare, run
from hscc.timing.runtimes import RUNTIMES, EngineRuntime, usable_runtimes
from tests.pipeline.committed import committed

SIDE = 32
PARAMS = committed(
    data={"image_size": SIDE},
    quantise={"enabled": False},
    bench={"batches": [4, 1], "threads": 1, "repeats": 3, "seconds": 5.0},
).model_copy(update={"compress": CompressParams.model_construct(cells=())})


def settings(*batches: int) -> BenchParams:
    return PARAMS.bench.model_copy(update={"batches": batches})


@pytest.fixture(scope="module")
def workspace(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a baseline in both of its forms, after the stage."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copy(empty_store, workspace)
    folder = workspace / layout.baseline("grouped")
    model = build("smallcnn", 4)
    save_dense(model, ModelCard("smallcnn", ("a", "b", "c", "d"), SIDE, "grouped", 0), folder / "model.safetensors")
    write_onnx(model, folder / "model.onnx", (3, SIDE, SIDE))
    facts = {"protocol": "grouped", "seed": 0, "macs": 1000, "params": 200, "val_accuracy": 0.9}
    (folder / "metrics.json").write_text(json.dumps(facts))
    run(PARAMS, workspace)
    return workspace


@pytest.fixture
def copied(workspace: Path, empty_store: Path, tmp_path: Path) -> Path:
    """A workspace of a test's own."""
    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("mlruns", "mlflow.db"))
    shutil.copy(empty_store, tmp_path / "w")
    return tmp_path / "w"


def save_doubling(path: Path, kind: int = TensorProto.UINT8, batch: str | int = "batch") -> None:
    """Save a network that takes what a user's own may: uint8 images of any size, or something unheard of."""
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), helper.make_node("Mul", ["f", "two"], ["y"])],
        "doubling",
        [helper.make_tensor_value_info("x", kind, [batch, "height", "width", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(2.0), "two")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def test_the_bench_has_one_row_per_runtime_and_batch(workspace: Path) -> None:
    bench = read_bench(workspace / layout.BENCH_JSON)
    timed = usable_runtimes(PARAMS.bench.runtimes)
    assert [(row.runtime, row.batch) for row in bench.rows] == [(name, batch) for name in timed for batch in (1, 4)]
    assert all(row.pairs == 3 and row.ms > 0 and row.speedup > 0 for row in bench.rows)
    assert (bench.reference, bench.protocol) == ("dense-grouped", "grouped")
    assert pd.read_csv(workspace / layout.BENCH_CSV)["batch"].tolist() == [1, 4] * len(timed)


def test_a_network_that_does_not_run_leaves_the_earlier_bench(copied: Path) -> None:
    before = (copied / layout.BENCH_JSON).read_bytes()
    (copied / layout.baseline("grouped") / "model.onnx").write_text("no network")
    with pytest.raises(ArtifactError, match=r"model\.onnx is not an ONNX network"):
        run(PARAMS, copied)
    assert (copied / layout.BENCH_JSON).read_bytes() == before


def test_files_of_a_user_s_own_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one.onnx", "two.onnx"):
        save_doubling(tmp_path / name)
    compare([tmp_path / "one.onnx", tmp_path / "two.onnx"], settings(2), 24, tmp_path / "out.json")
    rows = read_bench(tmp_path / "out.json").rows
    assert [(row.network, row.runtime, row.batch) for row in rows] == [
        ("one.onnx", "onnxruntime", 2), ("two.onnx", "onnxruntime", 2),
    ]  # fmt: skip
    assert "two.onnx" in capsys.readouterr().out


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    files = [tmp_path / folder / "model.onnx" for folder in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        save_doubling(file)
    compare(files, settings(1), 8, tmp_path / "out.json")
    rows = read_bench(tmp_path / "out.json").rows
    assert [row.network for row in rows] == [str(file) for file in files]


@pytest.mark.parametrize(
    ("kind", "batch", "said"),
    [
        (TensorProto.UINT8, 8, "takes batches of 8 only, not of 2"),
        (TensorProto.INT64, "batch", "input x is a tensor.int64.; only floats and uint8"),
    ],
)
def test_an_input_that_cannot_be_drawn_is_named(tmp_path: Path, kind: int, batch: str | int, said: str) -> None:
    save_doubling(tmp_path / "one.onnx")
    save_doubling(tmp_path / "odd.onnx", kind, batch)
    with pytest.raises(ArtifactError, match=r"odd\.onnx"):
        compare([tmp_path / "one.onnx", tmp_path / "odd.onnx"], settings(2), 8)
    with pytest.raises(ArtifactError, match=said):
        compare([tmp_path / "odd.onnx", tmp_path / "one.onnx"], settings(2), 8)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nothing\.onnx does not exist"):
        compare([tmp_path / "nothing.onnx"] * 2, PARAMS.bench, 8)


@pytest.mark.skipif(not RUNTIMES["engine"].available, reason=RUNTIMES["engine"].missing())
def test_files_of_the_engine_are_held_against_a_portable_reference(tmp_path: Path) -> None:
    model = build("smallcnn", 4).eval()
    write_onnx(model, tmp_path / "dense.onnx", (3, SIDE, SIDE))
    export_engine(model, tmp_path / "small.hscc", input_shape=(3, SIDE, SIDE))
    compare([tmp_path / "dense.onnx", tmp_path / "small.hscc"], settings(1, 2), SIDE, tmp_path / "out.json")
    rows = read_bench(tmp_path / "out.json").rows
    assert [(row.network, row.runtime, row.batch) for row in rows] == [
        ("dense.onnx", "onnxruntime", 1), ("dense.onnx", "onnxruntime", 2), ("small.hscc", "engine", 1),
        ("small.hscc", "engine", 2),
    ]  # fmt: skip
    assert [row.speedup_over_onnxruntime is None for row in rows] == [True, True, False, False]
    assert rows[2].size_bytes == (tmp_path / "small.hscc").stat().st_size


def test_a_runtime_that_is_not_here_is_passed_over_and_said(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(EngineRuntime, "missing", lambda self: "the library is missing.")
    monkeypatch.setattr("hscc.pipeline.benchmark.measurement.peak_memory", lambda *_: Peaks(30.0, {1: 20.0, 4: 25.0}))
    run(PARAMS, copied)
    assert read_bench(copied / layout.BENCH_JSON).runtimes == ("onnxruntime", "torch")
    assert "not timed in engine: the library is missing." in capsys.readouterr().out
