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
from hscc.pipeline.statistics.structure_grid import Trial
from hscc.pipeline.statistics.structure_schema import AUTO, FIXED, Setting, StructureCosts, StructureTiming
from hscc.pipeline.statistics.structure_trials import (
    Clock,
    DenseReference,
    FixedStructure,
    load_trial,
    method_of,
    save_trial,
    try_setting,
)
from hscc.training.images import to_input

SIDE, IMAGES = 32, 24


def fixed(regions: int, clusters: int, budget: float, images: int = IMAGES) -> Setting:
    return Setting(method=FIXED, regions=regions, clusters=clusters, budget_macs=budget, images=images)


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
def dense(network: nn.Module, images: np.ndarray) -> DenseReference:
    return DenseReference(network, images, Clock((1, 2), 1, 0.01))


def test_the_dense_network_is_what_torch_computes(
    dense: DenseReference, network: nn.Module, images: np.ndarray
) -> None:
    with torch.no_grad():
        expected = network(to_input(images)).numpy()
    np.testing.assert_allclose(dense.logits, expected, atol=1e-4)


def test_a_trial_keeps_its_budget_and_is_timed_at_each_batch(dense: DenseReference, calibration: Calibration) -> None:
    trial = try_setting(fixed(2, 4, 3.0), calibration, dense, 0)
    assert trial.costs.macs_ratio >= 3
    assert trial.logits.shape == (IMAGES, 4)
    assert not np.allclose(trial.logits, dense.logits)
    assert [timing.batch for timing in trial.costs.timings] == [1, 2]
    assert all(timing.ms > 0 and timing.speedup > 0 for timing in trial.costs.timings)


def test_looser_budgets_predict_and_lose_less(dense: DenseReference, calibration: Calibration) -> None:
    tight, loose = (try_setting(fixed(1, 1, budget), calibration, dense, 0) for budget in (2.5, 1.5))
    assert loose.costs.predicted_loss < tight.costs.predicted_loss
    assert np.abs(loose.logits - dense.logits).mean() < np.abs(tight.logits - dense.logits).mean()


def test_a_layer_too_narrow_for_clusters_keeps_its_regions(network: nn.Module, calibration: Calibration) -> None:
    def regions(method: HSCC) -> int:
        return len(plan(network, calibration, method, Budget(macs=3, only=True)).layers[0].structure.regions)

    assert regions(FixedStructure(regions=2, clusters=4, projection=None)) == 4
    assert regions(HSCC(regions=2, clusters=4, projection=None)) == 1  # why there is another


def test_a_budget_out_of_reach_is_refused(dense: DenseReference, calibration: Calibration) -> None:
    with pytest.raises(BudgetError, match="cannot be reached"):
        try_setting(fixed(2, 4, 1e6), calibration, dense, 0)


def test_spectra_are_forgotten_and_nothing_else(dense: DenseReference, calibration: Calibration) -> None:
    try_setting(fixed(1, 1, 2.5), calibration, dense, 0)
    assert len(calibration.cache) and calibration.cache.verified
    calibration.cache.forget_spectra()
    assert not len(calibration.cache) and calibration.cache.verified


def test_a_searched_setting_is_its_method() -> None:
    setting = Setting(method="hscc", regions=AUTO, clusters=AUTO, budget_macs=6.0, images=1)
    assert method_of(setting) is METHODS["hscc"]


def test_a_saved_trial_comes_back_to_the_bit(tmp_path: Path) -> None:
    setting = fixed(2, 4, 3.0, 96)
    logits = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    timings = (StructureTiming(batch=1, ms=0.3, speedup=0.1, speedup_se=0.2),)
    costs = StructureCosts(predicted_loss=0.1, macs=7, params=3, macs_ratio=1 / 3, params_ratio=2.0, timings=timings)
    assert load_trial(setting, tmp_path) is None
    save_trial(Trial(setting, costs, logits), tmp_path)
    found = load_trial(setting, tmp_path)
    assert found is not None
    assert found.costs == costs
    assert found.logits.dtype == np.float32
    np.testing.assert_array_equal(found.logits, logits)
    assert load_trial(fixed(2, 4, 6.0, 96), tmp_path) is None
