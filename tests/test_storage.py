"""What was saved is what is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from hscc.api import apply, compress, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import Calibration, calibrate
from hscc.errors import ArtifactError, CompressionError
from hscc.methods import HSCC, METHODS, Tucker
from hscc.networks.backbones import build
from hscc.storage import load, save
from tests.tiny import tiny_images, tiny_network


@pytest.mark.parametrize("method", list(METHODS.values()), ids=list(METHODS))
def test_saved_network_is_the_same(tmp_path, calibration: Calibration, network: nn.Module, method) -> None:
    small = apply(network, plan(network, calibration, method, Budget(macs=3, only=True)))
    save(small, tmp_path)
    images = tiny_images(3)
    assert torch.equal(load(tmp_path, tiny_network())(images), small(images))


def test_own_network_needs_its_dense_form_to_load(tmp_path, calibration: Calibration, network: nn.Module) -> None:
    save(apply(network, plan(network, calibration, Tucker(), Budget(3))), tmp_path)
    with pytest.raises(ArtifactError, match="pass the dense one"):
        load(tmp_path)


def test_a_network_of_torchvision_is_recognised(tmp_path) -> None:
    images = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    dense = build("mobilenet_v2", 5).eval()
    small = compress(dense, [images], HSCC(regions=1, clusters=1, projection=None), Budget(1.5), cells=1)
    save(small, str(tmp_path))
    torch.testing.assert_close(load(str(tmp_path))(images), small(images))


def test_missing_network_is_named(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="hscc compress"):
        load(tmp_path)


def test_a_dense_network_cannot_be_saved_as_a_compressed_one(tmp_path, network: nn.Module) -> None:
    with pytest.raises(CompressionError, match="no plan"):
        save(network, tmp_path)


def test_weights_of_another_plan_are_refused(tmp_path, network: nn.Module, images: torch.Tensor) -> None:
    calibration = calibrate(network, [images])
    for name, ratio in (("a", 3), ("b", 6)):
        save(apply(network, plan(network, calibration, HSCC(), Budget(ratio))), tmp_path / name)
    (tmp_path / "a" / "plan.json").write_bytes((tmp_path / "b" / "plan.json").read_bytes())
    with pytest.raises(ArtifactError, match="does not fit its plan"):
        load(tmp_path / "a", tiny_network())


def saved(folder: Path, model: nn.Module) -> nn.Module:
    dtype = next(model.parameters()).dtype
    small = compress(model.eval(), [torch.randn(8, 3, 32, 32, dtype=dtype)], Tucker(), Budget(2), cells=1, refit=False)
    save(small, folder)
    return small


def pooled_less() -> nn.Module:
    network = build("resnet18", 4)
    network.maxpool = nn.Identity()
    return network


def deeper_head() -> nn.Module:
    network = build("resnet18", 4)
    network.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 4))
    return network


def headless() -> nn.Module:
    network = build("densenet121", 4)
    network.classifier = nn.Identity()
    return network


@pytest.mark.parametrize("changed", [pooled_less, deeper_head, headless])
def test_a_network_that_was_changed_is_not_taken_for_torchvisions(changed: Callable[[], nn.Module], tmp_path) -> None:
    small = saved(tmp_path, changed())
    with pytest.raises(ArtifactError, match="pass the dense one"):
        load(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(load(tmp_path, changed())(images), small(images))


def test_a_recognised_network_keeps_its_dtype(tmp_path) -> None:
    small = saved(tmp_path, build("resnet18", 4).double())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    assert torch.equal(load(tmp_path)(images), small(images))


def test_another_network_than_the_dense_one_is_named(tmp_path, calibration: Calibration, network: nn.Module) -> None:
    small = apply(network, plan(network, calibration, Tucker(), Budget(3)))
    save(small, tmp_path)
    for other in (nn.Sequential(nn.Conv2d(3, 4, 3)), small):
        with pytest.raises(ArtifactError, match="dense network"):
            load(tmp_path, other)
