from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hscc.errors import ArtifactError
from hscc.export.quantisation import Int8, quantise
from hscc.export.to_onnx import write_onnx
from hscc.timing.sessions import open_session

SIDE = 16


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(4),
        nn.Conv2d(16, 8, 1), nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 64), nn.Linear(64, 4),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("source") / "model.onnx"
    write_onnx(network, path, (3, SIDE, SIDE))
    return path


def batches(count: int = 4) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield generator.normal(size=(8, 3, SIDE, SIDE)).astype(np.float32)


def run(path: Path, images: np.ndarray) -> np.ndarray:
    (logits,) = open_session(path, 1).run(["logits"], {"image": images})
    return np.asarray(logits)


@pytest.mark.parametrize(
    "settings",
    [
        Int8(), Int8(format="qoperator"), Int8(per_channel=False), Int8(activations="int8"), Int8(ranges="percentile"),
        Int8(reduce_range=True), Int8(only_weighted=True), Int8(keep_float=(0, -1)),
    ],
)  # fmt: skip
def test_the_int8_variant_computes_nearly_the_same(source: Path, tmp_path: Path, settings: Int8) -> None:
    quantise(source, tmp_path / "int8.onnx", batches(), settings)
    images = next(batches(1))[:5]
    wanted, found = run(source, images), run(tmp_path / "int8.onnx", images)
    assert found.shape == wanted.shape and found.dtype == np.float32
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
    assert not np.array_equal(found, wanted)


def test_weights_are_bytes_and_the_file_is_smaller(source: Path, tmp_path: Path) -> None:
    quantise(source, tmp_path / "int8.onnx", batches())
    stored = {entry.name: entry for entry in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    large = [entry for entry in stored.values() if len(entry.dims) >= 2]
    assert large and all(entry.data_type == onnx.TensorProto.INT8 for entry in large)
    assert (tmp_path / "int8.onnx").stat().st_size < source.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]


def test_what_is_kept_in_floats_stays_in_floats(source: Path, tmp_path: Path) -> None:
    quantise(source, tmp_path / "int8.onnx", batches(), Int8(keep_float=(0,)))
    stored = [entry for entry in onnx.load(tmp_path / "int8.onnx").graph.initializer if len(entry.dims) == 4]
    kept = [entry.dims[0] for entry in stored if entry.data_type == onnx.TensorProto.FLOAT]
    assert kept == [16]


def test_the_same_images_give_the_same_file(source: Path, tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        quantise(source, tmp_path / name, batches())
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_file_that_is_no_network_leaves_the_earlier_variant(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_text("no network")
    (tmp_path / "int8.onnx").write_text("earlier")
    with pytest.raises(ArtifactError, match=r"bad\.onnx is not an ONNX network"):
        quantise(tmp_path / "bad.onnx", tmp_path / "int8.onnx", batches())
    assert (tmp_path / "int8.onnx").read_text() == "earlier"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nothing\.onnx does not exist"):
        quantise(tmp_path / "nothing.onnx", tmp_path / "int8.onnx", batches())


def test_no_images_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be quantised"):
        quantise(source, tmp_path / "int8.onnx", batches(0))
