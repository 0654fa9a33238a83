"""The lines that docs/deployment.md shows are run as they stand."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

import hscc
from hscc.export.card import DeploymentCard
from hscc.export.preprocessing import Preprocessing
from tests.export.conftest import SIDE, run_without

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"


def test_the_six_lines_run_without_this_library_and_without_torch(network: nn.Module, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert sum(bool(line) for line in program.splitlines()) == 6
    hscc.export_onnx(network, tmp_path / "hscc.onnx", Preprocessing(SIDE), DeploymentCard(("a", "b", "c")))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)).save(tmp_path / "slice.jpg")
    found = ast.literal_eval(run_without(("hscc", "torch"), program, tmp_path))
    assert list(found) == ["a", "b", "c"]
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)
