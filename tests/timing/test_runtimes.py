"""Runtimes: the same numbers in each that is here, and a sentence on what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import hscc
from hscc.engine.export import export_engine
from hscc.errors import ArtifactError, ParamsError
from hscc.export.to_onnx import write_onnx
from hscc.timing import runtimes
from hscc.timing.runtimes import ENGINE, RUNTIMES, default_runtime, find_runtime, runtime_of, usable_runtimes
from tests.tiny import tiny_images, tiny_network

SHAPE = (3, 18, 18)
HERE = usable_runtimes(list(RUNTIMES))


@pytest.mark.parametrize("name", HERE)
def test_a_runtime_computes_what_torch_does_from_a_module_and_from_its_file(name: str, tmp_path: Path) -> None:
    dense, images = tiny_network(torch.float32), tiny_images(6, torch.float32)
    small = hscc.compress(dense, [tiny_images(48, torch.float32)], hscc.HSCC(), hscc.Budget(macs=2), cells=2).eval()
    runtime = find_runtime(name)
    path = tmp_path / f"small{runtime.suffix}"
    if name == ENGINE:
        export_engine(small, path, input_shape=SHAPE)
    else:
        write_onnx(small, path, SHAPE)
    with torch.no_grad():
        expected = small(images).numpy()
    for session in (runtime.open_module(small, SHAPE, 1), runtime.open_file(path, 2)):
        for count in (1, 6):
            np.testing.assert_allclose(session(images[:count].numpy()), expected[:count], atol=1e-4)
        session.bind(3)()
    assert runtime.version().startswith(("hscc engine", "onnxruntime", "openvino"))


@pytest.mark.parametrize("name", HERE)
def test_a_file_that_is_no_network_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken{RUNTIMES[name].suffix}"
    for content in (b"", b"no network"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="broken"):
            RUNTIMES[name].open_file(path, 1)
    path.unlink()
    with pytest.raises(ArtifactError, match="broken"):
        RUNTIMES[name].open_file(path, 1)


def test_what_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParamsError, match="choose one of engine, onnxruntime, openvino"):
        find_runtime("abacus")
    monkeypatch.setattr(runtimes, "version", _nothing)
    with pytest.raises(ParamsError, match=r"openvino is missing; install it with: pip install 'hscc\[openvino\]'"):
        find_runtime("openvino")
    assert usable_runtimes(["onnxruntime", "torch"]) == ["torch"]


def test_the_engine_is_the_default_where_its_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing, name in (("", "engine"), ("the library is missing", "onnxruntime")):
        monkeypatch.setattr(runtimes.EngineRuntime, "missing", lambda self, said=missing: said)
        assert default_runtime() == name
    assert runtime_of(Path("a.hscc")) == ENGINE and runtime_of(Path("a.onnx")) == "onnxruntime"


def _nothing(package: str) -> str:
    raise runtimes.PackageNotFoundError(package)
