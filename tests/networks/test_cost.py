"""The cost report: one row per module, adding up to what is counted on the whole network."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from hscc.errors import CompressionError
from hscc.networks.backbones import build
from hscc.networks.cost import CostReport, LayerCost, cost, count_macs, count_parameters

SHAPE = (3, 8, 8)


class Scaled(nn.Module):
    """A convolution between two products with a matrix of the block's own."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.ones(8, 8))
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x @ self.mix) @ self.mix


class Bypassed(nn.Module):
    """Runs a convolution through its parent once, and once without it."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x) + self.block[0](x)


class Hidden(nn.Module):
    """Runs a module that it does not own."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Conv2d(3, 3, 1)
        self.hidden = [nn.Conv2d(3, 2, 1)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.hidden[0](self.own(x))


class Half(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


def shared() -> nn.Module:
    layer = nn.Conv2d(3, 3, 3, padding=1)
    return nn.Sequential(layer, nn.ReLU(), nn.Sequential(layer), nn.BatchNorm2d(3))


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    return model


def parametrized() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    parametrize.register_parametrization(model[0], "weight", Half())
    return model


def of(report: CostReport) -> dict[str, LayerCost]:
    return {row.name: row for row in report.rows}


@pytest.mark.parametrize(
    "make", [Scaled, Bypassed, Hidden, shared, tied, parametrized, nn.ReLU, lambda: nn.Conv2d(3, 2, 3)]
)
def test_rows_add_up_to_the_totals(make: type[nn.Module]) -> None:
    model = make()
    report = cost(model, SHAPE)
    assert report.macs == (count_macs(model, SHAPE) if list(model.parameters()) else 0)
    assert report.params == count_parameters(model)
    assert report.bytes == sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    assert report.macs == sum(row.macs for row in report.rows) and report.macs >= 0
    assert all(row.macs >= 0 and row.params >= 0 for row in report.rows)


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2"])
def test_backbones_add_up(name: str) -> None:
    model = build(name, 4)
    report = cost(model, (1, 3, 64, 64))
    assert (report.macs, report.params) == (count_macs(model, (3, 64, 64)), count_parameters(model))
    assert {row.kind for row in report.rows} == {"Conv2d", "BatchNorm2d", "Linear"}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_any_chain_of_reused_layers_adds_up(steps: list[tuple[int, bool, bool]]) -> None:
    layers: list[nn.Module] = []
    for kernel, bias, again in steps:
        layer = nn.Conv2d(3, 3, kernel, padding=kernel // 2, bias=bias)
        layers += [layer, nn.Sequential(layer, nn.BatchNorm2d(3))] if again else [layer]
    model = nn.Sequential(*layers)
    report = cost(model, SHAPE)
    assert (report.macs, report.params) == (count_macs(model, SHAPE), count_parameters(model))


def test_arithmetic_goes_to_the_module_that_does_it() -> None:
    rows = of(cost(nn.Sequential(Scaled(), nn.ReLU()), SHAPE))
    assert rows["0"] == LayerCost("0", "Scaled", 2 * 3 * 8 * 8 * 8, 64, 256)
    assert rows["0.conv"] == LayerCost("0.conv", "Conv2d", 3 * 27 * 64, 84, 336)
    assert list(rows) == ["0", "0.conv"]


def test_a_module_run_twice_costs_twice_and_weighs_once() -> None:
    rows = of(cost(shared(), SHAPE))
    assert rows["0"] == LayerCost("0", "Conv2d", 2 * 3 * 27 * 64, 84, 336)
    assert rows["3"] == LayerCost("3", "BatchNorm2d", 0, 6, 4 * 12 + 8)
    assert of(cost(Bypassed(), SHAPE))["block.0"].macs == 2 * 9 * 64


def test_tied_weights_belong_to_the_first() -> None:
    first, second = cost(tied(), SHAPE).rows
    assert (first.params, second.params, second.bytes) == (72, 0, 0)
    assert first.macs == second.macs == 3 * 8 * 64


def test_what_is_run_unregistered_belongs_to_its_caller() -> None:
    assert of(cost(Hidden(), SHAPE))[""].macs == 3 * 2 * 64


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_bytes_follow_the_element_size(dtype: torch.dtype) -> None:
    assert cost(nn.Conv2d(3, 2, 1).to(dtype), SHAPE).bytes == 8 * dtype.itemsize


def test_figures_are_for_one_image() -> None:
    model = build("smallcnn", 4)
    assert cost(model, (5, 3, 32, 32)) == cost(model, (3, 32, 32)) == cost(model, torch.Size((1, 3, 32, 32)))


@pytest.mark.parametrize("shape", [SHAPE, (7, 8, 8)])
def test_the_network_is_left_as_it_was(shape: tuple[int, int, int]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Dropout())
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if shape == SHAPE:
        cost(model, shape)
    else:
        with pytest.raises(CompressionError):
            cost(model, shape)
    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    hooks = (*torch.nn.modules.module._global_forward_hooks, *torch.nn.modules.module._global_forward_pre_hooks)
    assert not hooks and not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("shape", [(), (8, 8), (1, 1, 3, 8, 8), (3, 0, 8), (3, -8, 8), (3, 8.0, 8), (0, 3, 8, 8)])
def test_a_shape_of_no_image_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(CompressionError, match=r"input_shape \(.*\(1, 3, 224, 224\)"):
        cost(nn.Conv2d(3, 3, 1), shape)


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (1, 3, 2, 2)])
def test_a_shape_that_does_not_fit_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(CompressionError, match=r"cannot run on an input of shape \(1, ") as caught:
        cost(build("alexnet", 4) if shape[1] == 3 else build("smallcnn", 4), shape)
    assert "\n" not in str(caught.value)


def test_printed_it_is_a_table_with_totals() -> None:
    report = cost(nn.Sequential(Scaled()), SHAPE)
    lines = str(report).splitlines()
    (total,) = [line for line in lines if "total" in line]
    assert f"{report.macs / 1e6:.3f}" in total and f"{report.params}" in total and f"{report.bytes}" in total
    assert any("0.conv" in line and "Conv2d" in line for line in lines)
    assert "(network)" in str(cost(nn.Conv2d(3, 3, 1), SHAPE))


def test_a_report_is_frozen() -> None:
    report = cost(nn.Conv2d(3, 3, 1), SHAPE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.rows = ()  # type: ignore[misc]


def test_macs_of_attention_do_not_depend_on_what_is_frozen() -> None:
    network = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    free = count_macs(network, (5, 16))
    assert count_macs(network.requires_grad_(False), (5, 16)) == free > 0
