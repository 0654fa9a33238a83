from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from hscc.export.quantisation import Int8, quantise
from hscc.export.rotation import rotate_hidden
from hscc.export.to_onnx import write_onnx
from hscc.timing.sessions import open_session

SIDE = 16


class Bands(nn.Module):
    """Three factors side by side, concatenated for a grouped and then an ordinary convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ModuleList(nn.Conv2d(3, width, 3, padding=1) for width in (8, 4, 4))
        self.second = nn.Conv2d(16, 24, 3, groups=2, padding=1)
        self.third = nn.Conv2d(24, 8, 1, bias=False)
        self.head = nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = self.second(torch.cat([conv(images) for conv in self.first], 1))
        return self.head(self.third(hidden).relu().mean((2, 3)))


def skewed_factors() -> nn.Module:
    """A factored layer whose hidden channels differ in energy by orders of magnitude."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 4),
    )  # fmt: skip
    scale = torch.logspace(0, -2, 32)  # of both factors, as the balanced halves of singular values are
    with torch.no_grad():
        network[0].weight *= scale.view(-1, 1, 1, 1)
        network[0].bias *= scale
        network[1].weight *= scale.view(1, -1, 1, 1)
    return network


def exported(network: nn.Module, path: Path) -> Path:
    write_onnx(network, path, (3, SIDE, SIDE))
    return path


def run(path: Path, images: np.ndarray) -> np.ndarray:
    (logits,) = open_session(path, 1).run(["logits"], {"image": images})
    return np.asarray(logits)


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(32, 3, SIDE, SIDE)).astype(np.float32)


def hidden_weights(path: Path, outputs: int, inputs: int) -> np.ndarray:
    stored = [numpy_helper.to_array(entry) for entry in onnx.load(path).graph.initializer]
    return next(weight for weight in stored if weight.ndim == 4 and weight.shape[:2] == (outputs, inputs))


@pytest.mark.parametrize(("make", "count"), [(Bands, 4), (skewed_factors, 1)])
def test_a_rotated_network_computes_the_same(make: type, count: int, tmp_path: Path, images: np.ndarray) -> None:
    torch.manual_seed(0)
    path = exported(make(), tmp_path / "model.onnx")
    network = onnx.load(path)
    assert rotate_hidden(network) == count
    onnx.save(network, tmp_path / "rotated.onnx")
    wanted = run(path, images)
    np.testing.assert_allclose(run(tmp_path / "rotated.onnx", images), wanted, atol=1e-4 * np.abs(wanted).max())


def test_the_energies_of_hidden_channels_become_alike(tmp_path: Path) -> None:
    path = exported(skewed_factors(), tmp_path / "model.onnx")
    network = onnx.load(path)
    rotate_hidden(network)
    onnx.save(network, tmp_path / "rotated.onnx")

    def spread(path: Path) -> float:
        norms = np.linalg.norm(hidden_weights(path, 32, 3).reshape(32, -1), axis=1)
        return float(norms.max() / norms.min())

    assert spread(path) > 50
    assert spread(tmp_path / "rotated.onnx") < 10


def test_rotation_makes_int8_more_faithful(tmp_path: Path, images: np.ndarray) -> None:
    path = exported(skewed_factors(), tmp_path / "model.onnx")
    wanted = run(path, images)
    errors = {}
    for rotate in (False, True):
        quantise(path, tmp_path / "int8.onnx", [images], Int8(rotate=rotate, keep_float=(-1,)))
        errors[rotate] = ((run(tmp_path / "int8.onnx", images) - wanted) ** 2).mean()
    assert errors[True] < errors[False] / 1.5


def test_what_a_nonlinearity_or_a_second_reader_stands_between_is_left_alone(tmp_path: Path) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.shared = nn.Linear(3, 3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            hidden = self.first(images)
            flat = (hidden + self.second(hidden)).mean((2, 3))
            return self.shared(self.shared(flat).relu())

    network = onnx.load(exported(Residual(), tmp_path / "model.onnx"))
    before = network.SerializeToString()
    assert rotate_hidden(network) == 0
    assert network.SerializeToString() == before
