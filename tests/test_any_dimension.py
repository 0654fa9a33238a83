"""Signals and volumes: networks of Conv1d and Conv3d are compressed as those of Conv2d are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hscc
from hscc.calibration.layers import CONVOLUTIONS
from hscc.calibration.storage import load_calibration, save_calibration
from hscc.errors import ExportError
from hscc.export.to_onnx import write_onnx
from hscc.networks.cost import count_macs, count_parameters
from hscc.structures.low_rank import LowRank
from tests.test_any_cnn import difference

NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
pytestmark = pytest.mark.filterwarnings("ignore:.*calibration images are few")


def conv(axes: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = CONVOLUTIONS[axes](inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, NORMS[axes](outputs))


class Residual(nn.Module):
    """A basic block of a ResNet."""

    def __init__(self, axes: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = conv(axes, inputs, outputs, stride=2), conv(axes, outputs, outputs)
        self.across = conv(axes, inputs, outputs, kernel=1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.across(x))


class UNet(nn.Module):
    """Two levels of a U-Net, whose answer is a map of three classes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.low = conv(3, 1, width), conv(3, width, 2 * width, stride=2)
        self.up = nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.out, self.head = conv(3, 2 * width, width), nn.Conv3d(width, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        high = F.relu(self.down(x))
        both = torch.cat((self.up(F.relu(self.low(high))), high), dim=1)
        return self.head(F.relu(self.out(both)))


def signal_classifier() -> nn.Module:
    return nn.Sequential(
        conv(1, 2, 16, 7, 2), nn.ReLU(), conv(1, 16, 24, 5), nn.ReLU(), conv(1, 24, 24), nn.ReLU(),
        nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(96, 4),
    )  # fmt: skip


def volume_resnet() -> nn.Module:
    return nn.Sequential(
        conv(3, 1, 8), nn.ReLU(), Residual(3, 8, 24), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "signal classifier": (signal_classifier, (2, 64)),
    "volume resnet": (volume_resnet, (1, 12, 10, 11)),
    "volume u-net": (lambda: UNet(12), (1, 8, 8, 8)),
}


def smooth(count: int, shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    coarse = torch.randn(count, shape[0], *[4] * (len(shape) - 1), generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=shape[1:], mode="linear" if len(shape) == 2 else "trilinear")


@dataclass(frozen=True)
class Case:
    """A network with what was made of it."""

    dense: nn.Module
    shape: tuple[int, ...]
    images: torch.Tensor
    calibration: hscc.Calibration
    plan: hscc.Plan
    small: nn.Module


@pytest.fixture(scope="module", params=list(NETWORKS))
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    make, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    dense, images = make().eval(), smooth(40, shape)
    calibration = hscc.calibrate(dense, images.split(20), cells=2)
    method = hscc.HSCC(regions=2, clusters=1, projection=None, rank_multiple=1)
    made = hscc.plan(dense, calibration, method, hscc.Budget(macs=3, only=True))
    yield Case(dense, shape, images, calibration, made, hscc.apply(dense, made))


def test_the_real_modules_cost_what_the_plan_says(case: Case) -> None:
    macs, params = count_macs(case.small, case.shape), count_parameters(case.small)
    assert (macs, params) == (case.plan.macs, case.plan.params)
    assert macs <= count_macs(case.dense, case.shape) / 3
    for shape in (case.shape, (5, *case.shape)):
        report = hscc.cost(case.small, shape)
        assert (report.macs, report.params) == (macs, params)


def test_it_stays_near_the_dense_network(case: Case) -> None:
    assert difference(case.dense, case.small, case.images) < 0.5
    with torch.no_grad():
        bigger = smooth(2, (case.shape[0], *(size + 4 for size in case.shape[1:])))
        assert torch.isfinite(case.small(bigger)).all()  # regions scale with the grid
    method = hscc.HSCC(regions=2, clusters=1, projection=None, rank_multiple=1)
    generous = hscc.plan(case.dense, case.calibration, method, hscc.Budget(macs=1.01, only=True))
    assert difference(case.dense, hscc.apply(case.dense, generous), case.images) < 0.02


def test_layers_are_divided_along_every_axis(case: Case) -> None:
    divided = [
        entry for entry in case.plan.layers
        if isinstance(entry.structure, LowRank) and len(entry.structure.regions) > 1 and entry.layer.kind == "conv"
    ]  # fmt: skip
    assert divided
    for entry in divided:
        assert len(entry.structure.regions) == 2 ** (len(case.shape) - 1)
        assert sum(entry.structure.region_positions(entry.layer, r) for r in entry.structure.regions) == (
            entry.layer.positions
        )


def test_plans_calibrations_and_networks_are_saved_and_read(case: Case, tmp_path: Path) -> None:
    save_calibration(case.calibration, tmp_path / "moments.safetensors")
    again = load_calibration(tmp_path / "moments.safetensors")
    assert again.layers == case.calibration.layers and again.input_shape == case.shape
    assert {name: m.cells for name, m in again.moments.items()} == {
        name: m.cells for name, m in case.calibration.moments.items()
    }
    assert hscc.Plan.from_json(case.plan.to_json()) == case.plan
    hscc.save(case.small, tmp_path)
    with torch.no_grad():
        assert torch.equal(hscc.load(tmp_path, case.dense)(case.images), case.small(case.images))


def test_the_onnx_file_says_what_the_network_says(case: Case, tmp_path: Path) -> None:
    if len(case.shape) == 2:
        write_onnx(case.small, tmp_path / "network.onnx", case.shape)  # which compares it with torch
        with pytest.raises(ExportError, match="pictures"):
            hscc.export_onnx(case.small, tmp_path / "deployed.onnx")
    else:  # volumes of the network's size; these are compared too
        assert hscc.export_onnx(case.small, tmp_path / "deployed.onnx") <= 1e-4


def test_a_refit_lowers_the_divergence(case: Case) -> None:
    done = hscc.refit(case.small, case.dense, case.calibration, case.images.split(20))
    assert done.after <= done.before
    assert {entry.layer for entry in done.layers} == {
        entry.layer.name for entry in case.plan.layers if entry.structure.kind != "dense"
    }


def test_training_reaches_every_factor(case: Case) -> None:
    small = hscc.apply(case.dense, case.plan).train()
    small(case.images[:4]).square().sum().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize(
    "method",
    [
        hscc.AdaptiveTucker(rank_multiple=1), hscc.Tucker(), hscc.SpatialSVD(), hscc.GlobalSVD(),
        hscc.HSCC(regions="merged", clusters=2, rank_multiple=1), hscc.HSCC(terms=((4, 6),), rank_multiple=1, refine=3),
    ],
    ids=lambda method: type(method).__name__,
)  # fmt: skip
def test_every_method_takes_signals_and_volumes(axes: int, method: hscc.methods.Method) -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(conv(axes, 2, 16), nn.ReLU(), conv(axes, 16, 16), nn.ReLU(), nn.Flatten(2)).eval()
    dense = nn.Sequential(*dense, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 3)).eval()
    shape = (2, *[{1: 24, 3: 6}[axes]] * axes)
    images = smooth(30, shape)
    made = hscc.plan(dense, hscc.calibrate(dense, [images], cells=2), method, hscc.Budget(macs=2, only=True))
    small = hscc.apply(dense, made)
    assert count_macs(small, shape) == made.macs <= made.dense_macs / 2
    assert count_parameters(small) == made.params
    assert difference(dense, small, images) < 1


def test_what_cannot_be_factored_says_why() -> None:
    torch.manual_seed(0)
    separable = nn.Sequential(conv(3, 16, 16, groups=16), nn.ReLU(), conv(3, 16, 24, kernel=1))
    dense = nn.Sequential(conv(3, 1, 16), nn.ReLU(), separable, nn.ReLU(), nn.ConvTranspose3d(24, 8, 2, 2), nn.ReLU())
    dense = nn.Sequential(*dense, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3)).eval()
    calibration = hscc.calibrate(dense, [smooth(20, (1, 6, 6, 6))], cells=2)
    reasons = calibration.left_dense
    assert "16 groups" in reasons["2.0.0"] and "transposed" in reasons["4"]
    made = hscc.plan(dense, calibration, hscc.HSCC(rank_multiple=1), hscc.Budget(macs=1.3, only=True))
    pointwise = next(entry for entry in made.layers if entry.layer.name == "2.2.0")
    assert pointwise.structure.kind != "dense"


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("method", [hscc.HSCC(), hscc.AdaptiveTucker()], ids=lambda method: type(method).__name__)
def test_a_convolution_on_one_position_is_compressed(axes: int, method: hscc.methods.Method) -> None:
    network = nn.Sequential(
        CONVOLUTIONS[axes](1, 16, 3, 2, 1), nn.ReLU(), CONVOLUTIONS[axes](16, 32, 3, 2, 1), nn.ReLU(),
        CONVOLUTIONS[axes](32, 32, 3, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3),
    ).eval()  # fmt: skip
    shape = (1, *[4] * axes)
    small = hscc.compress(network, [smooth(30, shape)], method, hscc.Budget(macs=2, only=True), refit=False)
    assert 2 * count_macs(small, shape) <= count_macs(network, shape)
