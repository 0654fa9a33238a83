from __future__ import annotations

import pytest
import torch

from hscc.networks.backbones import build
from hscc.networks.cost import count_macs, count_parameters


@pytest.mark.parametrize("sides", [(32, 32), (48, 80)])
def test_a_map_has_the_size_of_its_image(sides: tuple[int, int]) -> None:
    model = build("unet", 3).eval()
    assert model(torch.zeros(2, 3, *sides)).shape == (2, 3, *sides)


def test_its_cost_is_as_stated() -> None:
    model = build("unet", 2)
    assert 1.8e6 < count_parameters(model) < 1.9e6
    assert 42e3 < count_macs(model, (3, 64, 64)) / 64**2 < 46e3
