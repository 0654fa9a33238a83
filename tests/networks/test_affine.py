from __future__ import annotations

import pytest
import torch
from torch import nn

from hscc.errors import CompressionError
from hscc.networks.affine import Scaled, fold_scale

INPUTS = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))


def test_scale_and_shift_are_folded_into_the_last_layer() -> None:
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2), nn.Identity())
    before = network(INPUTS)
    folded = fold_scale(network, [40.0, 0.5], [120.0, -3.0], INPUTS)
    torch.testing.assert_close(folded(INPUTS), Scaled(network, [40.0, 0.5], [120.0, -3.0])(INPUTS))
    assert torch.equal(network(INPUTS), before)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(3, 2), nn.Sigmoid()),
        nn.Sequential(nn.Linear(3, 2, bias=False)),
        nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (2, 2)), nn.AdaptiveMaxPool1d(1), nn.Flatten()),
    ],
)
def test_a_network_that_ends_in_something_else_is_refused(network: nn.Module) -> None:
    with pytest.raises(CompressionError, match="does not end in a linear layer of 2 outputs"):
        fold_scale(network, [2.0, 2.0], [1.0, 1.0], INPUTS)
