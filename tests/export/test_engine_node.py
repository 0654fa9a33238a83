"""The engine inside OpenVINO and ONNX Runtime."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from hscc.engine.export import export_engine
from hscc.engine.library import available
from hscc.errors import ExportError
from hscc.export.engine_node import build_extension, engine_onnx

pytestmark = pytest.mark.skipif(not available(), reason="the engine's library was not built here")
HEADERS = os.environ.get("HSCC_ONNXRUNTIME_HEADERS")  # folder of onnxruntime_c_api.h; no package brings it


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 8 * 8, 5)
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("engine")
    export_engine(network, folder / "network.hscc", input_shape=(3, 16, 16))
    onnx.save(engine_onnx(folder / "network.hscc"), folder / "network.onnx")
    return folder / "network.onnx"


def expected(network, images):
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


def test_the_file_holds_one_node_with_the_network_in_it(file):
    model = onnx.load(file)
    (node,) = model.graph.node
    assert (node.domain, node.op_type) == ("hscc", "Network")
    (held,) = model.graph.initializer
    assert onnx.numpy_helper.to_array(held).tobytes() == (file.parent / "network.hscc").read_bytes()
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [0, 3, 16, 16]


@pytest.mark.parametrize("batch", [1, 3])
def test_openvino_runs_it(network, file, batch, tmp_path_factory):
    openvino = pytest.importorskip("openvino")
    library = _built("openvino", tmp_path_factory)
    core = openvino.Core()
    core.add_extension(str(library))
    compiled = core.compile_model(core.read_model(str(file)), "CPU")
    images = np.random.default_rng(batch).standard_normal((batch, 3, 16, 16), np.float32)
    np.testing.assert_allclose(compiled(images)[0], expected(network, images), rtol=0, atol=1e-5)


@pytest.mark.skipif(HEADERS is None, reason="HSCC_ONNXRUNTIME_HEADERS names no folder of onnxruntime_c_api.h")
def test_onnx_runtime_runs_it(network, file, tmp_path_factory):
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(_built("onnxruntime", tmp_path_factory)))
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
    np.testing.assert_allclose(session.run(None, {"input": images})[0], expected(network, images), rtol=0, atol=1e-5)


def test_missing_headers_are_named(tmp_path):
    with pytest.raises(ExportError, match=r"onnxruntime_c_api\.h"):
        build_extension("onnxruntime", tmp_path / "library.so", headers=tmp_path)


def _built(runtime, factory):
    library = factory.getbasetemp() / f"lib_{runtime}.so"
    if not Path(library).exists():
        build_extension(runtime, library, Path(HEADERS) if HEADERS else None)
    return library
