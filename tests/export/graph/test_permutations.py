"""Orders of channels move into the weights before them, and only where nobody else minds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hscc.export.graph.simplify import simplify
from tests.export.graph.exported import assert_same, constants, exported, factored, kinds, low_rank, region

EVEN, ODD = list(range(0, 16, 2)), list(range(1, 16, 2))
WHOLE = ((0, 4, 0, 4),)
UPPER, LOWER = ((0, 2, 0, 4),), ((2, 4, 0, 4),)
HALVES = ((EVEN, 2), (ODD, 2))


def _chain(*between: nn.Module) -> nn.Sequential:
    """A convolution, what lies between, a convolution to be factored, a classifier."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), *between, nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip


class _Residual(nn.Module):
    """Two convolutions around a sum; the second reads its input in an order of its own."""

    def __init__(self, second: nn.Module) -> None:
        super().__init__()
        self.before, self.inner = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.second = second

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        first = self.before(input).relu()
        return self.second((first + self.inner(first)).relu()).mean((2, 3))


def test_order_goes_through_what_treats_channels_alike() -> None:
    between = nn.ReLU(), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ReLU6(), nn.AvgPool2d(3, 1, 1), nn.LeakyReLU(0.1)
    proto = exported(factored(_chain(*between), {"7": low_rank(region(WHOLE, *HALVES))}))
    assert kinds(proto)["Gather"] == kinds(proto)["BatchNormalization"] == 1
    small = simplify(proto)
    assert not kinds(small)["Gather"]
    assert_same(proto, small)


def test_regions_with_one_order_fold_through_the_concat_of_the_layer_before() -> None:
    network = factored(
        nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 4),
        ),
        {
            "2": low_rank(region(UPPER, (list(range(6)), 3)), region(LOWER, (list(range(6)), 0))),
            "4": low_rank(region(UPPER, *HALVES), region(LOWER, (EVEN, 3), (ODD, 3))),
        },
    )  # fmt: skip
    proto = exported(network)
    assert kinds(proto)["Gather"] == 2
    small = simplify(proto)
    assert not kinds(small)["Gather"]
    assert_same(proto, small)


def test_a_dropped_cluster_is_never_computed() -> None:
    proto = exported(factored(_chain(nn.ReLU()), {"2": low_rank(region(WHOLE, (EVEN, 4), (ODD, 0)))}))
    small = simplify(proto)
    assert not kinds(small)["Gather"]
    assert constants(small)["0.weight"].shape == (8, 3, 3, 3)
    assert constants(small)["0.bias"].shape == (8,)
    assert_same(proto, small)


def test_order_of_features_goes_into_the_linear_layer_before() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12)
    )
    structure = low_rank(region(WHOLE, (EVEN, 2), (ODD, 3)))
    proto = exported(factored(network, {"5": structure}))
    assert kinds(proto)["Gather"] == 1
    small = simplify(proto)
    assert not kinds(small)["Gather"]
    assert_same(proto, small)


def test_a_sum_ties_both_its_parts_and_another_reader_takes_the_order_too() -> None:
    factored_layer = factored(_chain(), {"1": low_rank(region(WHOLE, *HALVES))})[1]
    proto = exported(_Residual(factored_layer).eval())
    assert kinds(proto)["Gather"] == 1
    small = simplify(proto)
    assert not kinds(small)["Gather"]
    assert_same(proto, small)


@pytest.mark.parametrize(
    ("between", "regions"),
    [
        ((nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16)), [region(WHOLE, *HALVES)]),
        ((nn.ReLU(),), [region(UPPER, *HALVES), region(LOWER, (ODD, 2), (EVEN, 2))]),
        ((nn.ReLU(),), [region(UPPER, *HALVES), region(LOWER, (list(range(16)), 3))]),
        ((nn.ReLU(),), [region(UPPER, (EVEN, 2), (ODD, 0)), region(LOWER, (list(range(16)), 3))]),
    ],
    ids=["depthwise before", "two orders", "an order and none that is grouped", "another reads the dropped channels"],
)
def test_what_somebody_minds_stays(between, regions) -> None:
    proto = exported(factored(_chain(*between), {str(1 + len(between)): low_rank(*regions)}))
    small = simplify(proto)
    assert_same(proto, small)
    if len(regions) == 2 and len(regions[1].blocks) == 1 and all(block.rank for block in regions[0].blocks):
        assert not kinds(small)["Gather"]  # an ungrouped convolution takes any complete order
    else:
        assert kinds(small)["Gather"] == kinds(proto)["Gather"] > 0
