from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hscc.errors import ArtifactError
from hscc.pipeline.statistics import predictions
from hscc.pipeline.statistics.predictions import as_input, predict

SIDE = 8


def save_linear(path: Path, weight: np.ndarray) -> None:
    """A network that flattens and multiplies: logits (N, 4) of images (N, 3, SIDE, SIDE)."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (7, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture
def weight() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3 * SIDE * SIDE, 4)).astype(np.float32)


def test_logits_are_those_of_the_file_in_the_order_asked_for(
    tmp_path: Path, images: np.ndarray, weight: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "CHUNK", 2)
    save_linear(tmp_path / "model.onnx", weight)
    rows = np.array([5, 0, 3, 6, 1])
    logits = predict(tmp_path / "model.onnx", 1, images, rows)
    np.testing.assert_allclose(logits, as_input(images[rows]).reshape(5, -1) @ weight, rtol=1e-4, atol=1e-4)


def test_a_file_that_is_no_network_is_named(tmp_path: Path, images: np.ndarray) -> None:
    (tmp_path / "model.onnx").write_text("not a network")
    with pytest.raises(ArtifactError, match=r"model\.onnx is not an ONNX network"):
        predict(tmp_path / "model.onnx", 1, images, np.array([0]))


def test_a_network_of_another_image_size_is_named(tmp_path: Path, images: np.ndarray, weight: np.ndarray) -> None:
    save_linear(tmp_path / "model.onnx", weight)
    with pytest.raises(ArtifactError, match=r"inputs of 3 x 8 x 8 .* gives 3 x 4 x 4"):
        predict(tmp_path / "model.onnx", 1, images[:, :4, :4], np.array([0]))


def test_logits_that_are_not_finite_are_refused(tmp_path: Path, images: np.ndarray, weight: np.ndarray) -> None:
    save_linear(tmp_path / "model.onnx", np.full_like(weight, np.inf))
    with pytest.raises(ArtifactError, match="not finite"):
        predict(tmp_path / "model.onnx", 1, images, np.array([0]))
