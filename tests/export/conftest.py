from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

SIDE = 24


def small_network(classes: int = 3) -> nn.Module:
    """Make a network that depends on every pixel; its probabilities are far from equal."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, classes)
    )
    with torch.no_grad():
        network[-1].weight.mul_(20)
    return network.train()


@pytest.fixture(scope="session")
def network() -> nn.Module:
    return small_network()


@pytest.fixture(scope="session")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = [(31, 57), (70, 33, 3), (20, 19, 1), (24, 24, 4)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


def as_batch(picture: np.ndarray, count: int = 1) -> np.ndarray:
    return np.stack([picture] * count).reshape(count, *picture.shape[:2], -1)


def run_without(blocked: tuple[str, ...], program: str, folder: Path) -> str:
    """Run a program in a fresh interpreter in which some packages cannot be imported."""
    barred = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    done = subprocess.run(
        [sys.executable, "-c", barred + program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
