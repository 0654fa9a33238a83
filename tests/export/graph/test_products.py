"""Pairs of linear layers become one where that is cheaper, and only there."""

from __future__ import annotations

import pytest
from torch import nn

from hscc.export.graph.simplify import simplify
from tests.export.graph.exported import assert_same, exported, factored, kinds, low_rank, region

WHOLE = ((0, 4, 0, 4),)


def _conv_network(*pair: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *pair, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("pair", "convolutions"),
    [
        ((nn.Conv2d(8, 10, 1), nn.Conv2d(10, 6, 1)), 2),
        ((nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)), 3),
        ((nn.Conv2d(8, 10, 3, 2, 1, bias=False), nn.Conv2d(10, 8, 1)), 2),
        ((nn.Conv2d(8, 2, 3, padding=1), nn.Conv2d(2, 8, 1)), 3),
        ((nn.Conv2d(8, 32, 3, padding=1, groups=2), nn.Conv2d(32, 6, 1)), 2),
        ((nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 16, 1)), 3),
        ((nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 3, padding=1)), 2),
        ((nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3)), 2),
        ((nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)), 3),
        ((nn.Conv2d(8, 8, 1, bias=False), nn.Conv2d(8, 8, 3, stride=2)), 2),
        ((nn.Conv2d(8, 10, 1, padding=1), nn.Conv2d(10, 8, 3)), 3),
        ((nn.Conv2d(8, 10, 1), nn.ReLU(), nn.Conv2d(10, 6, 1)), 3),
    ],
    ids=[
        "1x1 1x1", "low rank 1x1", "3x3 1x1", "low rank 3x3", "grouped 1x1", "depthwise 1x1", "1x1 3x3",
        "bias 1x1 3x3", "bias 1x1 padded 3x3", "1x1 strided 3x3", "padded 1x1", "activation between",
    ],
)  # fmt: skip
def test_convolutions(pair: tuple[nn.Module, ...], convolutions: int) -> None:
    proto = exported(factored(_conv_network(*pair), {}))
    assert kinds(proto)["Conv"] == 3
    small = simplify(proto)
    assert kinds(small)["Conv"] == convolutions
    assert_same(proto, small)


@pytest.mark.parametrize(("rank", "left"), [(9, 1), (1, 2)])
def test_factors_of_nearly_full_rank_are_one_linear_layer_again(rank: int, left: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16))
    proto = exported(factored(network, {"3": low_rank(region(WHOLE, (list(range(8)), rank)))}))
    assert kinds(proto)["Gemm"] == 2
    small = simplify(proto)
    assert kinds(small)["Gemm"] == left
    assert_same(proto, small)
