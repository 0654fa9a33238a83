from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hscc.api import plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import Calibration, calibrate
from hscc.errors import BudgetError
from hscc.methods import METHODS
from hscc.methods.hscc import HSCC
from hscc.pipeline.statistics.structure_grid import (
    AUTO,
    FIXED,
    Clock,
    FixedStructure,
    Ground,
    Setting,
    Trial,
    forget_spectra,
    keep_trial,
    kept_trial,
    try_setting,
)
from hscc.training.images import to_input

SIDE, IMAGES = 32, 24


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (IMAGES, SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A first layer too narrow for clusters, a second that has room for four."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4)).eval()


@pytest.fixture(scope="module")
def calibration(network: nn.Module, images: np.ndarray) -> Calibration:
    return calibrate(network, to_input(images).split(8), cells=2)


@pytest.fixture(scope="module")
def ground(network: nn.Module, images: np.ndarray) -> Ground:
    return Ground(network, images, Clock((1, 2), 1, 0.01))


def test_the_dense_network_is_what_torch_computes(ground: Ground, network: nn.Module, images: np.ndarray) -> None:
    with torch.no_grad():
        expected = network(to_input(images)).numpy()
    np.testing.assert_allclose(ground.logits, expected, atol=1e-4)


def test_a_trial_keeps_its_budget_and_is_timed_at_each_batch(ground: Ground, calibration: Calibration) -> None:
    trial = try_setting(Setting(FIXED, 2, 4, 3.0, IMAGES), calibration, ground, 0)
    assert trial.facts["macs_ratio"] >= 3
    assert trial.logits.shape == (IMAGES, 4)
    assert not np.allclose(trial.logits, ground.logits)
    assert all(trial.facts[f"{name}_b{batch}"] > 0 for name in ("latency_ms", "speedup") for batch in (1, 2))


def test_looser_budgets_predict_and_lose_less(ground: Ground, calibration: Calibration) -> None:
    tight, loose = (try_setting(Setting(FIXED, 1, 1, budget, IMAGES), calibration, ground, 0) for budget in (2.5, 1.5))
    assert loose.facts["predicted_loss"] < tight.facts["predicted_loss"]
    assert np.abs(loose.logits - ground.logits).mean() < np.abs(tight.logits - ground.logits).mean()


def test_a_layer_too_narrow_for_clusters_keeps_its_regions(network: nn.Module, calibration: Calibration) -> None:
    def regions(method: HSCC) -> int:
        return len(plan(network, calibration, method, Budget(macs=3)).layers[0].structure.regions)

    assert regions(FixedStructure(regions=2, clusters=4, projection=None)) == 4
    assert regions(HSCC(regions=2, clusters=4, projection=None)) == 1  # why there is another


def test_a_budget_out_of_reach_is_refused(ground: Ground, calibration: Calibration) -> None:
    with pytest.raises(BudgetError, match="cannot be reached"):
        try_setting(Setting(FIXED, 2, 4, 1e6, IMAGES), calibration, ground, 0)


def test_spectra_are_forgotten_and_nothing_else(ground: Ground, calibration: Calibration) -> None:
    try_setting(Setting(FIXED, 1, 1, 2.5, IMAGES), calibration, ground, 0)
    assert any(isinstance(key, tuple) for key in calibration.memo)
    forget_spectra(calibration)
    assert set(calibration.memo) == {"verified"}


def test_a_searched_setting_is_its_method() -> None:
    assert Setting("hscc", AUTO, AUTO, 6.0, 1).make() is METHODS["hscc"]


def test_a_kept_trial_comes_back_to_the_bit(tmp_path: Path) -> None:
    setting = Setting(FIXED, 2, 4, 3.0, 96)
    logits = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    assert kept_trial(setting, tmp_path) is None
    keep_trial(Trial(setting, {"macs": 7.0, "speedup_b1": 0.1}, logits), tmp_path)
    found = kept_trial(setting, tmp_path)
    assert found is not None
    assert found.facts == {"macs": 7.0, "speedup_b1": 0.1}
    assert found.logits.dtype == np.float32
    np.testing.assert_array_equal(found.logits, logits)
    assert kept_trial(Setting(FIXED, 2, 4, 6.0, 96), tmp_path) is None
