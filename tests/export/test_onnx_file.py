"""One ONNX file from pictures to probabilities, which needs neither this library nor torch."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

import hscc
from hscc.errors import ExportError
from hscc.export.card import NOTICE, DeploymentCard
from hscc.export.onnx_file import compose_deployed, read_card
from hscc.export.preprocessing import Preprocessing
from hscc.export.to_onnx import to_onnx, write_onnx
from tests.export.conftest import SIDE, as_batch, run_without

CARD = DeploymentCard(("a", "b", "c"), method="tucker", git_commit="f" * 40, scores={"accuracy": 0.9})


@pytest.fixture(scope="module")
def exported(network: nn.Module, pictures: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "network.onnx"
    assert hscc.export_onnx(network, path, Preprocessing(SIDE), CARD, pictures=pictures) <= 1e-4
    return path


def expected(network: nn.Module, picture: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return torch.softmax(network.eval()(Preprocessing(SIDE).prepare(picture)), 1).numpy()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_batch_and_size_gives_torchs_probabilities(
    exported: Path, network: nn.Module, pictures: list, count: int
) -> None:
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    for picture in pictures:
        (found,) = session.run(["probabilities"], {"image": as_batch(picture, count)})
        np.testing.assert_allclose(found, np.repeat(expected(network, picture), count, 0), atol=1e-5)
        assert np.ptp(found) > 0.1  # a constant answer would agree as well


def test_it_runs_without_this_library_and_without_torch(exported: Path, network: nn.Module, pictures: list) -> None:
    np.save(exported.parent / "picture.npy", as_batch(pictures[1]))
    program = """
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
print(session.run(None, {"image": np.load("picture.npy")})[0].tolist())
print(session.get_modelmeta().custom_metadata_map["classes"])
"""
    probabilities, classes = run_without(("hscc", "torch"), program, exported.parent).splitlines()
    np.testing.assert_allclose(json.loads(probabilities), expected(network, pictures[1]), atol=1e-5)
    assert json.loads(classes) == ["a", "b", "c"]


def test_the_file_holds_standard_operators_free_axes_and_no_trace_of_this_machine(exported: Path) -> None:
    proto = onnx.load(exported)
    onnx.checker.check_model(proto, full_check=True)
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert not proto.functions
    (entry,), (result,) = proto.graph.input, proto.graph.output
    sides = [side.dim_param for side in entry.type.tensor_type.shape.dim]
    assert (entry.name, entry.type.tensor_type.elem_type, len(set(sides))) == ("image", TensorProto.UINT8, 4)
    assert all(sides)
    assert (result.name, result.type.tensor_type.shape.dim[1].dim_value) == ("probabilities", 3)
    assert b".py" not in exported.read_bytes()
    assert list(exported.parent.glob(".*")) == []


def test_the_runtime_has_nothing_to_complain_of(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")


def test_the_card_is_inside_and_leaves_out_what_is_not_known(exported: Path) -> None:
    card = read_card(exported)
    assert json.loads(card["scores"]) == {"accuracy": 0.9}
    assert (card["method"], card["git_commit"], card["notice"]) == ("tucker", "f" * 40, NOTICE)
    assert "24 x 24" in card["preprocessing"]
    assert "protocol" not in card


def test_the_callers_network_stays_as_it_was(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    hscc.export_onnx(network, tmp_path / "network.onnx", Preprocessing(SIDE))
    assert all(module.training for module in network.modules())
    assert json.loads(read_card(tmp_path / "network.onnx")["classes"]) == ["0", "1", "2", "3"]


def test_another_network_than_torchs_is_refused_and_the_old_file_stays(
    exported: Path, network: nn.Module, tmp_path: Path
) -> None:
    other = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    write_onnx(other, tmp_path / "other.onnx", (3, SIDE, SIDE))
    target = tmp_path / "network.onnx"
    target.write_bytes(b"old")
    with pytest.raises(ExportError, match=r"network\.onnx: a probability differs from the network's by"):
        hscc.export_onnx(network, target, Preprocessing(SIDE), network=tmp_path / "other.onnx")
    assert target.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"network.onnx", "other.onnx"}


def test_a_card_of_other_classes_is_refused(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="2 classes but the network has 3"):
        hscc.export_onnx(network, tmp_path / "network.onnx", Preprocessing(SIDE), DeploymentCard(("a", "b")))


def test_an_export_is_the_same_after_another_network_and_leaves_torch_as_it_was(network: nn.Module) -> None:
    make = ONNXRegistry.from_torchlib
    first = to_onnx(network.eval(), (3, SIDE, SIDE))
    to_onnx(nn.Sequential(nn.Conv2d(2, 3, 3), nn.GELU(), nn.Flatten()).eval(), (2, 5, 5))
    assert to_onnx(network, (3, SIDE, SIDE)).SerializeToString(deterministic=True) == first.SerializeToString(
        deterministic=True
    )
    assert ONNXRegistry.from_torchlib == make
    assert ONNXRegistry.from_torchlib() is not ONNXRegistry.from_torchlib()  # a caller may add to a table of its own


def test_exports_in_two_threads_leave_the_output_as_it_was(network: nn.Module) -> None:
    before, make = (sys.stdout, sys.stderr), ONNXRegistry.from_torchlib
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: to_onnx(network.eval(), (3, SIDE, SIDE)), range(2))
    assert (sys.stdout, sys.stderr) == before
    assert ONNXRegistry.from_torchlib == make
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_equal_weights_are_stored_once() -> None:
    weights = np.random.default_rng(0).normal(size=(3 * SIDE * SIDE, 64)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "one"], ["x"]),
            helper.make_node("MatMul", ["flat", "two"], ["y"]),
            helper.make_node("Add", ["x", "y"], ["logits"]),
        ],
        "twice",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 64])],
        [numpy_helper.from_array(weights, "one"), numpy_helper.from_array(weights, "two")],
    )
    bare = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    deployed = compose_deployed(bare, Preprocessing(SIDE))
    assert deployed.ByteSize() < 1.5 * weights.nbytes
    session = onnxruntime.InferenceSession(deployed.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.random.default_rng(1).integers(0, 256, (1, 30, 30, 3), dtype=np.uint8)
    logits = Preprocessing(SIDE).prepare(picture[0]).flatten(1) @ torch.from_numpy(2 * weights)
    np.testing.assert_allclose(session.run(None, {"image": picture})[0], torch.softmax(logits, 1), atol=1e-4)


def test_a_module_that_regions_share_is_stored_once(tmp_path: Path) -> None:
    class Bands(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Conv2d(3, 64, 5, padding=2)

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.shared(band) for band in input.split(6, dim=2)], dim=2).mean((2, 3))

    hscc.export_onnx(Bands(), tmp_path / "network.onnx", Preprocessing(SIDE))
    initialisers = onnx.load(tmp_path / "network.onnx").graph.initializer
    assert sum(list(entry.dims) == [64, 3, 5, 5] for entry in initialisers) == 1
