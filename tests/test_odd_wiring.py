"""Odd networks at full rank, and odd ways to hand images over."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import hscc
from hscc.calibration.layers import Layer
from hscc.errors import BudgetError, CompressionError
from hscc.structures.base import Structure
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import LowRank
from hscc.structures.spatial import Separable
from hscc.structures.tucker import Tucker2
from tests.test_odd_networks import SHAPE, _images, _make, layers

pytestmark = pytest.mark.filterwarnings("ignore:.*calibration images are few")


def full(layer: Layer, structure: Structure) -> Structure:
    """The structure at the largest ranks it can have."""
    if layer.positions == 1:
        return DENSE  # its ranks end with the directions that images were seen in
    if isinstance(structure, Tucker2):
        return Tucker2((layer.inputs, layer.outputs))
    if isinstance(structure, Separable):
        return Separable(min(layer.inputs * layer.kernel[0], layer.outputs * layer.kernel[1]))
    assert isinstance(structure, LowRank)
    ranks = [
        [min(layer.outputs, len(block.channels) * layer.taps) for block in region.blocks]
        for region in structure.regions
    ]
    return structure.with_ranks(ranks)


# Behind fewer directions than channels no rank is full; `test_layers_reproduced` has the property for all directions.
PROJECTING = {"hscc", "tucker_adaptive"}


SILENT = [  # some clusters see nothing but channels that are always off, in single precision
    {
        "outputs": outputs, "kernel": kernel, "stride": 1, "padding": 0, "dilation": 1, "bias": False, "mode": "zeros",
        "kind": "plain", "norm": norm,
    }
    for outputs, kernel, norm in ((4, 1, "after"), (12, (3, 1), "before"))
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(layers, st.booleans(), st.sampled_from(sorted(set(hscc.METHODS) - PROJECTING)), st.booleans())
@example(SILENT, False, "hscc_paper", True)
@example([{**SILENT[0], "stride": 2}, SILENT[1]], False, "hscc_paper", True)
def test_full_rank_is_the_dense_network(specs, flat: bool, name: str, single: bool) -> None:
    model = _make(specs, flat, 0)
    if model is None:
        return
    dtype = torch.float32 if single else torch.float64
    model, images = model.to(dtype), _images(60).to(dtype)
    calibration = hscc.calibrate(model, images.split(25), cells=2)
    try:
        made = hscc.plan(model, calibration, hscc.METHODS[name], hscc.Budget(macs=1.5, only=True))
    except BudgetError:
        return
    whole = tuple(
        entry if entry.structure == DENSE else replace(entry, structure=full(entry.layer, entry.structure))
        for entry in made.layers
    )
    small = hscc.apply(model, replace(made, layers=whole, weights={}), calibration)
    fresh = torch.randn(4, *SHAPE, dtype=dtype)
    with torch.no_grad():
        expected, found = model(fresh), small(fresh)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=(1e-3 if single else 1e-9) * scale)


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


class Output(nn.Module):
    def __init__(self, kind: type) -> None:
        super().__init__()
        self.body, self.kind = plain(), kind

    def forward(self, images: torch.Tensor) -> object:
        logits = self.body(images)
        return {"first": logits, "second": logits} if self.kind is dict else ([logits], [logits])


@pytest.mark.parametrize("kind", [tuple, dict])
def test_an_output_whose_entry_is_not_clear_is_named(kind: type) -> None:
    with pytest.raises(CompressionError, match=f"{kind.__name__}.*entry"):
        hscc.calibrate(Output(kind), [torch.randn(4, 3, 12, 12)])


@pytest.mark.parametrize("shape", [(4, 1, 12, 12), (4, 3, 2, 2)], ids=["channels", "too small"])
def test_images_of_another_network_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(CompressionError, match=r"\(\d, \d+, \d+\)"):
        hscc.calibrate(plain(), [torch.randn(shape)])


def test_one_tensor_instead_of_batches_is_named() -> None:
    with pytest.raises(CompressionError, match="N, C, H, W"):
        hscc.calibrate(plain(), torch.randn(8, 3, 12, 12))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(mode) -> None:
    images = torch.randn(60, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    model = plain()
    expected = hscc.calibrate(model, [images], cells=1)
    with mode():
        found = hscc.calibrate(model, [images.clone()], cells=1)
    for name, moments in expected.moments.items():
        torch.testing.assert_close(found.moments[name].sensitivity, moments.sensitivity)


def test_images_take_the_networks_dtype() -> None:
    images = torch.randn(60, 3, 12, 12)
    small = hscc.compress(plain().double(), [images], hscc.HSCC(), hscc.Budget(macs=2, only=True), cells=1)
    assert small(images.double()).dtype == torch.float64


def test_what_is_frozen_stays_frozen() -> None:
    model = plain()
    model[2].requires_grad_(False)
    small = hscc.compress(
        model, [torch.randn(60, 3, 12, 12)], hscc.GlobalSVD(), hscc.Budget(macs=2, only=True), cells=1
    )
    assert type(small[2]) is not nn.Conv2d and not any(p.requires_grad for p in small[2].parameters())
    assert all(p.requires_grad for p in small[0].parameters())


def test_a_plan_is_json_without_surprises() -> None:
    made = hscc.plan(plain(), hscc.calibrate(plain(), [torch.randn(60, 3, 12, 12)]), hscc.HSCC(), hscc.Budget(params=2))
    assert json.loads(made.to_json())["budget"] == {"params": 2, "only": False}
    assert hscc.Plan.from_json(made.to_json()).to_json() == made.to_json()
