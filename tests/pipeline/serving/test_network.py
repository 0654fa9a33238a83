from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hscc.errors import ArtifactError
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.serving.heatmap import occlusion
from hscc.pipeline.serving.network import Network
from tests.pipeline.registered import head, save_network


def save_whole(path: Path) -> None:
    """Write a network that takes uint8 of any size: softmax of its mean grey level times a weight a class."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
            helper.make_node("MatMul", ["column", "w"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "whole",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "rows", "columns", "channels"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 4])],
        [
            numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
            numpy_helper.from_array(np.array([1]), "last"),
            numpy_helper.from_array(np.array([[0.0, 0.01, 0.02, 0.03]], dtype=np.float32), "w"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def test_a_bare_network_gets_the_pipelines_preprocessing(tmp_path: Path) -> None:
    sha256 = save_network(tmp_path / "model.onnx")
    network = Network(tmp_path / "model.onnx", CLASSES, sha256)
    found = network.probabilities([head(), head(1, side=150)])
    assert found.shape == (2, 4)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(network.probabilities([head(1, side=150)])[0], found[1], rtol=1e-5)


def test_a_whole_network_gets_the_image_as_it_is(tmp_path: Path) -> None:
    save_whole(tmp_path / "model.onnx")
    network = Network(tmp_path / "model.onnx", CLASSES)
    images = [head(), head(1, side=150)]
    logits = np.array([[0.0, 0.01, 0.02, 0.03]]) * np.array([[image.mean()] for image in images])
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(network.probabilities(images), expected, rtol=1e-4)
    np.testing.assert_allclose(network.probabilities(images[:1] * 2), expected[[0, 0]], rtol=1e-4)


def test_another_or_half_written_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    sha256 = save_network(path)
    save_network(path, seed=1)
    with pytest.raises(ArtifactError, match="not the file that was registered"):
        Network(path, CLASSES, sha256)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        Network(path, CLASSES)
    with pytest.raises(ArtifactError, match="does not exist"):
        Network(tmp_path / "none.onnx", CLASSES)


def test_weights_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4 * 3 * 16 * 16 * 4)
    save_network(tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../secret.bin"
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ArtifactError, match="weights from other files"):
        Network(tmp_path / "inner/model.onnx", CLASSES)


def test_a_pickle_in_the_place_of_a_network_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(ArtifactError):
        Network(path, CLASSES)
    assert not (tmp_path / "owned").exists()


def test_heat_lies_where_the_evidence_is() -> None:
    # A "network" that looks at one bright spot only.
    image = np.full((224, 224), 5, dtype=np.uint8)
    image[150:180, 40:70] = 250

    def classify(images: list[np.ndarray]) -> np.ndarray:
        bright = np.array([np.asarray(one)[150:180, 40:70].mean() / 255 for one in images])
        return np.stack([1 - bright, bright], axis=1)

    heat = occlusion(classify, image, 1)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 150 / 224 * 12 - 2 <= row <= 180 / 224 * 12 + 1
    assert 40 / 224 * 12 - 2 <= column <= 70 / 224 * 12 + 1
    assert np.abs(heat[:4, 8:]).max() < 1e-6
