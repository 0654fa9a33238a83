"""A tiny network compressed with regions and clusters, and some images."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import calibrate
from hscc.methods import HSCC
from hscc.plans import Plan
from tests.tiny import tiny_images, tiny_network


@pytest.fixture(scope="session")
def dense() -> nn.Module:
    return tiny_network(torch.float32)


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return tiny_images(24, torch.float32)


@pytest.fixture(scope="session")
def labels() -> torch.Tensor:
    return torch.arange(24) % 4


@pytest.fixture(scope="session")
def small(dense: nn.Module, images: torch.Tensor) -> nn.Module:
    """Two by two regions of two clusters wherever a layer allows it."""
    calibration = calibrate(dense, images.split(12), cells=2)
    method = HSCC(regions=2, clusters=2, projection=None, rank_multiple=1)
    return apply(dense, plan(dense, calibration, method, Budget(macs=2, only=True), 0)).eval()


@pytest.fixture(scope="session")
def plan_of_small(small: nn.Module) -> Plan:
    found = small.hscc_plan
    assert isinstance(found, Plan)
    return found
