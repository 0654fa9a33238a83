"""Compressed networks leave torch: torch.export with a dynamic batch says what eager says.

What ONNX makes of them, at the same batches: tests/export/graph/test_simplify.py.
"""

from __future__ import annotations

import pytest
import torch

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import calibrate
from hscc.methods import HSCC, Method, SpatialSVD
from tests.tiny import tiny_images, tiny_network


@pytest.mark.parametrize(
    "method",
    [
        HSCC(regions=(2, 3), clusters=2, rank_multiple=1),
        HSCC(regions=1, clusters=0.3, rank_multiple=1),
        SpatialSVD(),
    ],
    ids=["tiles", "unequal clusters", "spatial"],
)
def test_torch_export_matches_eager(method: Method) -> None:
    network = tiny_network(torch.float32)
    calibration = calibrate(network, [tiny_images(48, torch.float32)])
    small = apply(network, plan(network, calibration, method, Budget(2.5, only=True))).eval()
    example = (tiny_images(2, torch.float32),)
    program = torch.export.export(small, example, dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)).module()
    for count in (1, 2, 5):
        images = tiny_images(count, torch.float32)
        torch.testing.assert_close(program(images), small(images), rtol=1e-4, atol=1e-5)
