from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hscc.errors import ArtifactError
from hscc.pipeline.benchmark.peak_memory import peak_memory, resident_peak
from hscc.pipeline.benchmark.runtimes import Subject

WIDTH = 4_000_000  # floats: 16 MB


def save_wide(path: Path) -> None:
    """Save a network that adds a row of `WIDTH` weights to each input."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", WIDTH])],
        [numpy_helper.from_array(np.ones((1, WIDTH), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the mark cannot be reset")
def test_weights_and_activations_are_counted_and_the_runtime_is_not(tmp_path: Path) -> None:
    save_wide(tmp_path / "wide.onnx")
    found = peak_memory(Subject("wide", tmp_path / "wide.onnx", None, (3, 1, 1)), "onnxruntime", 1, [8, 1])
    assert found.loading is not None and 16 <= found.loading < 90
    assert list(found.running) == [1, 8]
    assert 32 <= found.running[1] < 110
    assert found.running[8] - found.running[1] == pytest.approx(7 * 16, rel=0.5)


def test_a_network_that_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_text("no network")
    with pytest.raises(ArtifactError, match=r"bad\.onnx does not run in onnxruntime by itself"):
        peak_memory(Subject("bad", tmp_path / "bad.onnx", None, (3, 1, 1)), "onnxruntime", 1, [1])


def test_the_mark_of_this_process_is_some_megabytes() -> None:
    peak = resident_peak()
    assert peak is None or 10e6 < peak < 1e12
