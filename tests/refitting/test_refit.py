"""Refit of whole networks: never further from the dense one, whatever the structures and the wiring."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

import hscc
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.errors import CompressionError
from hscc.refitting.moments import PairSums
from hscc.refitting.runs import answers, execution_order, layer_input, layer_output, mean_divergence
from hscc.structures.block_terms import block_terms
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.structures.spatial import Separable
from hscc.structures.tucker import Tucker2
from tests.tiny import tiny_images, tiny_network

METHODS = [
    hscc.GlobalSVD(),
    hscc.Tucker(),
    hscc.AdaptiveTucker(),
    hscc.SpatialSVD(),
    hscc.HSCC(projection=None),
    hscc.HSCC(),
]


@pytest.fixture(scope="module")
def dense() -> nn.Module:
    network = tiny_network()
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.weight.mul_(2.5)  # answers that differ from image to image
    return network


@pytest.fixture(scope="module")
def calibration(dense: nn.Module) -> Calibration:
    return hscc.calibrate(dense, [tiny_images(96)], cells=2)


@pytest.fixture
def images() -> list[torch.Tensor]:
    return list(tiny_images(96).split(20))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: f"{type(method).__name__}{len(str(method))}")
def test_held_out_divergence_never_rises_and_costs_stay(
    method: hscc.HSCC, dense: nn.Module, calibration: Calibration, images: list[torch.Tensor]
) -> None:
    small = hscc.apply(dense, hscc.plan(dense, calibration, method, hscc.Budget(macs=3, only=True)))
    held_out = torch.cat(images)[3::4]
    start = {key: value.clone() for key, value in small.state_dict().items()}
    with torch.no_grad():
        targets = list(answers(dense, [held_out], calibration.outputs))

    result = hscc.refit(small, dense, calibration, images)

    assert result.before == pytest.approx(mean_divergence(small, [held_out], targets, calibration.outputs))
    assert result.after == pytest.approx(mean_divergence(result.network, [held_out], targets, calibration.outputs))
    assert result.after <= result.before
    assert all(entry.error_after <= entry.error_before for entry in result.layers)
    assert [entry.layer for entry in result.layers] == [
        entry.layer.name for entry in small.hscc_plan.layers if entry.structure.kind != "dense"
    ]
    assert result.network.hscc_plan == small.hscc_plan
    assert all(torch.equal(value, start[key]) for key, value in small.state_dict().items())
    shapes = {key: value.shape for key, value in result.network.state_dict().items()}
    assert shapes == {key: value.shape for key, value in start.items()}


def test_it_makes_up_for_what_an_earlier_layer_lost(
    dense: nn.Module, calibration: Calibration, images: list[torch.Tensor]
) -> None:
    small = hscc.apply(dense, hscc.plan(dense, calibration, hscc.GlobalSVD(), hscc.Budget(macs=3, only=True)))
    assert hscc.refit(small, dense, calibration, images).after < 0.8 * hscc.refit(
        small, dense, calibration, images, rounds=0
    ).before  # fmt: skip


class _Branches(nn.Module):
    """A residual sum and two branches that are concatenated, registered in another order than they run."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(24, 4)
        self.last = nn.Conv2d(24, 24, 1, bias=False)
        self.norm = nn.BatchNorm2d(24)
        self.left, self.right = nn.Conv2d(16, 12, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)
        self.inside = nn.Conv2d(16, 16, 3, padding=1)
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        stem = torch.relu(self.stem(input))
        body = torch.relu(stem + self.inside(input=stem))
        both = torch.cat((self.left(body), self.right(body)), dim=1)
        return self.head(torch.relu(self.norm(self.last(both))).mean((2, 3)))


@pytest.mark.parametrize("method", [hscc.Tucker(), hscc.HSCC()], ids=["tucker", "hscc"])
def test_branches_are_fitted_in_the_order_of_execution_and_batch_norms_are_folded(method: hscc.Tucker) -> None:
    torch.manual_seed(0)
    network = _Branches().eval()
    with torch.no_grad():
        network.norm.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
        network.norm.running_var.uniform_(0.01, 0.1)  # type: ignore[union-attr]
    images = list(tiny_images(64, torch.float32).split(16))
    calibration = hscc.calibrate(network, images, cells=2)
    small = hscc.apply(network, hscc.plan(network, calibration, method, hscc.Budget(macs=3, only=True))).train()

    result = hscc.refit(small, network, calibration, images)

    order = ["stem", "inside", "left", "right", "last", "head"]
    assert [entry.layer for entry in result.layers] == [
        name for name in order if name in {entry.layer for entry in result.layers}
    ]
    assert len(result.layers) > 2
    assert result.after <= result.before
    assert result.network.training and small.training and not network.training


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "structure",
    [
        Tucker2((3, 4)),
        Separable(3),
        block_terms(2, 2, 3),
        LowRank(1, (Region(((0, 1, 0, 1),), (Block((0, 2), 2), Block((1, 3, 4), 0), Block((5,), 1))),)),
        LowRank(
            2,
            (
                Region(((0, 1, 0, 2), (1, 2, 0, 1)), (Block(tuple(range(6)), 3),)),
                Region(((1, 2, 1, 2),), (Block(tuple(range(6)), 0),)),
            ),
        ),
        LowRank(2, tuple(Region(((i, i + 1, 0, 2),), (Block((0, 1, 2), 2),)) for i in range(2)), projection=3),
    ],
    ids=["tucker", "spatial", "block_terms", "clusters", "regions", "projected"],
)
def test_a_chain_is_what_its_module_computes(structure: LowRank, bias: bool) -> None:
    layer = Layer("x", "conv", 6, 7, (3, 3), (1, 1), (1, 1), (1,) * 4, "constant", (6, 6), (6, 6), bias)
    torch.manual_seed(1)
    module = structure.build(layer).double()
    chain = structure.chain(layer, module)
    assert chain is not None
    images = torch.randn(5, 6, 6, 6, dtype=torch.float64)
    cells, tiles = structure.cell_tiles(layer)
    with torch.no_grad():
        expected = torch.zeros(5, 7, 6, 6, dtype=torch.float64)
        for index, region in enumerate(tiles):
            kernel = chain.weight(index, layer.features).reshape(7, 6, 3, 3)
            whole = nn.functional.conv2d(images, kernel, chain.regions[index].bias, padding=1)
            for top, bottom, left, right in region:
                at = (
                    slice(None),
                    slice(None),
                    *(slice(a * 6 // cells, b * 6 // cells) for a, b in ((top, bottom), (left, right))),
                )
                expected[at] = whole[at]
        torch.testing.assert_close(module(images), expected)

    again = structure.build(layer).double()
    again.load_state_dict(structure.chain_state(layer, chain))
    torch.testing.assert_close(again(images), module(images))


def test_moments_do_not_depend_on_how_images_are_batched() -> None:
    layer = Layer("x", "conv", 3, 4, (3, 3), (1, 1), (1, 1), (1,) * 4, "constant", (6, 6), (6, 6), True)
    torch.manual_seed(0)
    inputs, targets = torch.randn(8, 3, 6, 6, dtype=torch.float64), torch.randn(8, 4, 6, 6, dtype=torch.float64)
    weight = torch.randn(4, 27, dtype=torch.float64)
    found = []
    for size in (8, 3):
        sums = PairSums(layer, 1, [((0, 1, 0, 1),)], weight)
        for x, y in zip(inputs.split(size), targets.split(size), strict=True):
            sums.add(x, y)
        found.append(sums.result(weight, 1e-9, centred=True)[0])
    patches = nn.functional.unfold(inputs, 3, padding=1).transpose(1, 2).reshape(-1, 27)
    both = torch.cat((patches, targets.movedim(1, -1).reshape(-1, 4)), dim=1)
    joint = torch.cov(both.T, correction=0)
    for own in found:
        torch.testing.assert_close(own.covariance, joint[:27, :27])
        torch.testing.assert_close(own.cross, joint[27:, :27], rtol=1e-5, atol=1e-6)


def test_a_layer_is_reached_without_running_the_rest() -> None:
    class Refuses(nn.Module):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise AssertionError("run too far")

    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True))
    stopped = nn.Sequential(*network, Refuses())
    images = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        torch.testing.assert_close(layer_input(stopped, "2", images), network[:2](images))
        assert (layer_output(stopped, "2", images) < 0).any()  # as it was before the ReLU in place
        assert execution_order(network, ["2", "0"], images) == ["0", "2"]
        assert not network[0]._forward_hooks and not network[2]._forward_pre_hooks


def test_it_works_inside_inference_mode(dense: nn.Module, images: list[torch.Tensor]) -> None:
    budget = hscc.Budget(macs=3, only=True)
    outside = hscc.compress(dense, images, hscc.HSCC(), budget)
    with torch.inference_mode():
        inside = hscc.compress(dense, images, hscc.HSCC(), budget)
    for name, value in outside.state_dict().items():
        torch.testing.assert_close(inside.state_dict()[name], value)


def test_compress_refits_images_that_can_be_read_once(dense: nn.Module) -> None:
    def once() -> Iterator[torch.Tensor]:
        yield from tiny_images(64).split(16)

    budget = hscc.Budget(macs=4, only=True)
    plain = hscc.compress(dense, once(), hscc.GlobalSVD(), budget, cells=2, refit=False)
    refitted = hscc.compress(dense, once(), hscc.GlobalSVD(), budget, cells=2)
    with torch.no_grad():
        held_out, outputs = [tiny_images(64)[3::4]], hscc.Outputs("classes")
        targets = list(answers(dense, held_out, outputs))
        assert mean_divergence(refitted, held_out, targets, outputs) < mean_divergence(
            plain, held_out, targets, outputs
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"small": nn.Linear(2, 2)}, "has no plan"),
        ({"rounds": -1}, "rounds=-1"),
        ({"ridge": 0.0}, "ridge=0"),
        ({"images": []}, "too few"),
        ({"images": [tiny_images(3)]}, "too few"),
        ({"images": [tiny_images(8)[:, :, :9]]}, "do not fit"),
        ({"images": tiny_images(8)}, "one tensor"),
        ({"images": [tiny_images(8).int()]}, "float tensors"),
        ({"validation": []}, "too few"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, object], message: str, dense: nn.Module, calibration: Calibration, images: list[torch.Tensor]
) -> None:
    small = hscc.apply(dense, hscc.plan(dense, calibration, hscc.Tucker(), hscc.Budget(macs=2, only=True)))
    given = {"small": small, "images": images, **changes}
    with pytest.raises(CompressionError, match=message):
        hscc.refit(given.pop("small"), dense, calibration, given.pop("images"), **given)  # type: ignore[arg-type]


def test_a_calibration_of_another_network_is_refused(dense: nn.Module, images: list[torch.Tensor]) -> None:
    other = hscc.calibrate(tiny_network(), images, cells=1)
    small = hscc.apply(tiny_network(), hscc.plan(tiny_network(), other, hscc.Tucker(), hscc.Budget(macs=2, only=True)))
    with pytest.raises(CompressionError, match="another calibration"):
        hscc.refit(small, dense, hscc.calibrate(dense, images, cells=1), images)
