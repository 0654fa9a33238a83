from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import hscc
from hscc.calibration.layers import Layer, find_layers
from hscc.engine.operator import regional_conv, tiles_of_index
from hscc.partitions.regions import grid_tiles
from hscc.structures.low_rank import Block, LowRank, ProjectedConv, Region, RegionalConv
from tests.structures.test_structures import IRREGULAR
from tests.tiny import tiny_images, tiny_network


@st.composite
def layers(draw: st.DrawFn) -> tuple[Layer, LowRank]:
    inputs, outputs, projection = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.sampled_from([0, 2]))
    conv = nn.Conv2d(
        inputs, outputs, draw(st.tuples(st.integers(1, 3), st.integers(1, 3))), draw(st.integers(1, 2)),
        draw(st.sampled_from([0, 1])), draw(st.integers(1, 2)),
        padding_mode=draw(st.sampled_from(["zeros", "reflect"])),
    )  # fmt: skip
    (layer,), _ = find_layers(nn.Sequential(conv), (inputs, 13, 11))
    tiles = draw(st.sampled_from([[(tile,) for tile in grid_tiles((2, 2), 4)], list(IRREGULAR[2])]))
    channels = tuple(range(projection or inputs))
    regions = tuple(Region(tile, (Block(channels, draw(st.integers(0, 3))),)) for tile in tiles)
    return layer, LowRank(4, regions, 1, projection)


@given(layers())
@settings(max_examples=40, deadline=None)
def test_training_computes_what_the_tiles_do_and_so_do_its_gradients(case: tuple[Layer, LowRank]) -> None:
    layer, structure = case
    torch.manual_seed(0)
    module = structure.module(layer).double()
    images = torch.randn(2, layer.inputs, 13, 11, dtype=torch.float64)
    results = []
    for training in (False, True):
        module.train(training).zero_grad()
        given_ = images.clone().requires_grad_()
        output = module(given_)
        (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)).sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in [given_, *module.parameters()]]
        results.append([output.detach(), *gradients])
    for tiled, whole in zip(*results, strict=True):
        torch.testing.assert_close(tiled, whole)


def _arguments(dtype: torch.dtype = torch.float64) -> tuple[object, ...]:
    generator = torch.Generator().manual_seed(0)

    def drawn(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, dtype=dtype, generator=generator).requires_grad_()

    tiles = tiles_of_index(np.uint8([[0, 0, 1], [0, 2, 1], [2, 2, 1]]))
    return (
        drawn(2, 3, 5, 5), [drawn(2, 2, 3, 3), drawn(3, 2, 3, 3), drawn(0, 2, 3, 3)],
        [drawn(4, 2), drawn(4, 3), drawn(4, 0)], [drawn(4) for _ in range(3)], tiles, (2, 2), (1, 1, 1, 1), (1, 1),
        drawn(2, 3),
    )  # fmt: skip


def test_gradients_are_those_of_finite_differences() -> None:
    image, cores, decoders, biases, *geometry, projection = _arguments()

    def flat(image: torch.Tensor, projection: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        return regional_conv(image, weights[:3], weights[3:6], weights[6:], *geometry, projection)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(flat, (image, projection, *cores, *decoders, *biases))  # type: ignore[misc]


def test_the_operator_is_well_formed_and_compiles_whole() -> None:
    image, cores, decoders, biases, tiles, *geometry, _ = _arguments(torch.float32)
    flat_tiles = [number for tile in tiles for number in tile]  # type: ignore[attr-defined]
    inputs = image[:, :2].detach().requires_grad_()  # type: ignore[index]
    torch.library.opcheck(
        torch.ops.hscc.regional_conv.default,
        (inputs, cores, decoders, biases, flat_tiles, *map(list, geometry)),  # type: ignore[call-overload]
    )

    def forward(given_: torch.Tensor) -> torch.Tensor:
        return regional_conv(given_, cores, decoders, biases, tiles, *geometry).relu()  # type: ignore[arg-type]

    compiled = torch.compile(forward, fullgraph=True, backend="aot_eager")
    found, wanted = compiled(inputs), forward(inputs)
    torch.testing.assert_close(found, wanted)
    (of_found,), (of_wanted,) = (torch.autograd.grad(y.sum(), inputs) for y in (found, wanted))
    torch.testing.assert_close(of_found, of_wanted)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_tiles_cover_a_map_of_regions(rows: int, columns: int, seed: int) -> None:
    index = np.random.default_rng(seed).integers(0, 3, (rows, columns)).astype(np.uint8)
    covered = np.full(index.shape, 9)
    for region, top, bottom, left, right in tiles_of_index(index):
        assert (covered[top:bottom, left:right] == 9).all() and top < bottom and left < right
        covered[top:bottom, left:right] = region
    assert np.array_equal(covered, index)


def test_narrow_arithmetic_under_autocast() -> None:
    layer = Layer("x", "conv", 3, 5, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), "constant", (8, 8), (8, 8), True)
    regions = tuple(Region((tile,), (Block((0, 1), 2),)) for tile in grid_tiles((2, 2), 4))
    module = LowRank(4, regions, 1, 2).module(layer).train()
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = module(images)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert images.grad is not None and images.grad.dtype == torch.float32
    torch.testing.assert_close(output.float(), module(images), atol=0.1, rtol=0.1)


def test_a_compressed_network_trains_through_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    method = hscc.HSCC(regions=4, clusters=1, projection=None)
    small = hscc.compress(tiny_network(), [tiny_images()], method, hscc.Budget(macs=2, only=True)).train()
    regional = [module for module in small.modules() if isinstance(module, RegionalConv | ProjectedConv)]
    assert regional
    calls = []
    used = hscc.structures.low_rank.regional_conv
    monkeypatch.setattr(hscc.structures.low_rank, "regional_conv", lambda *a: calls.append(1) or used(*a))
    optimiser = torch.optim.SGD(small.parameters(), 1e-3)
    loss = F.cross_entropy(small(tiny_images(8)), torch.arange(8) % 4)
    loss.backward()
    optimiser.step()
    assert len(calls) == len(regional)
    with torch.no_grad():
        small(tiny_images(8))
    assert len(calls) == len(regional)
    after = F.cross_entropy(small.eval()(tiny_images(8)), torch.arange(8) % 4)
    assert after < loss
