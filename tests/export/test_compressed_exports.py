"""Compressed networks leave torch: torch.export and ONNX with a dynamic batch say what eager says."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import Calibration, calibrate
from hscc.export.to_onnx import write_onnx
from hscc.methods import ALDS, HSCC, SpatialSVD, Tucker
from tests.tiny import tiny_images, tiny_network

METHODS = {
    "tiles": HSCC(regions=(2, 3), clusters=2, rank_multiple=1),
    "bands": HSCC(regions=(4, 1), clusters=1, rank_multiple=1),
    "merged": HSCC(regions="merged", clusters=1, rank_multiple=1, region_similarity=0.95),
    "unequal clusters": HSCC(regions=1, clusters=0.3, rank_multiple=1),
    "tucker": Tucker(),
    "spatial": SpatialSVD(),
    "alds": ALDS(groups=(2,), rank_multiple=1),
}


@pytest.fixture(scope="module")
def single() -> tuple[nn.Module, Calibration]:
    network = tiny_network(torch.float32)
    return network, calibrate(network, [tiny_images(48, torch.float32)])


def _small(single: tuple[nn.Module, Calibration], name: str) -> nn.Module:
    network, calibration = single
    return apply(network, plan(network, calibration, METHODS[name], Budget(2.5, only=True))).eval()


@pytest.mark.parametrize("name", list(METHODS))
def test_torch_export_matches_eager(single, name: str) -> None:
    small = _small(single, name)
    example = (tiny_images(2, torch.float32),)
    program = torch.export.export(small, example, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)).module()
    for count in (1, 2, 5):
        images = tiny_images(count, torch.float32)
        torch.testing.assert_close(program(images), small(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(METHODS))
def test_onnx_matches_eager(single, name: str, tmp_path) -> None:
    small = _small(single, name)
    write_onnx(small, tmp_path / "model.onnx", (3, 18, 18))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 2, 5):
        images = tiny_images(count, torch.float32)
        (found,) = session.run(["logits"], {"image": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), small(images).detach(), rtol=1e-4, atol=1e-5)
