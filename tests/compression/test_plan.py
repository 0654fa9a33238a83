"""Plans: budgets are met, predictions are true, controls coincide where they must."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.calibration.cells import tile_rectangle
from hscc.calibration.collect import Calibration
from hscc.compression.api import apply, compress, plan
from hscc.compression.budget import Budget
from hscc.compression.low_rank import layer_region, whole_layer
from hscc.compression.methods import HSCC, METHODS, GlobalSVD, Tucker
from hscc.compression.plan import Plan
from hscc.compression.spectra import weighting
from hscc.compression.storage import Origin, load, save
from hscc.errors import ArtifactError, BudgetError, CompressionError
from hscc.models.counting import count_macs
from tests.compression.conftest import tiny_images, tiny_network

SHAPE = (3, 18, 18)
FINE = HSCC(rank_multiple=1, clusters=(1, 2))


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(METHODS)), st.floats(1.05, 40))
def test_budget_is_never_exceeded(calibration: Calibration, network: nn.Module, name: str, ratio: float) -> None:
    try:
        made = plan(network, calibration, METHODS[name], Budget(ratio))
    except BudgetError as error:
        assert "MACs" in str(error)
        return
    dense = count_macs(network, SHAPE)
    counted = count_macs(apply(network, made), SHAPE)
    assert counted == made.macs
    assert counted <= dense / ratio


@pytest.mark.parametrize("method", [FINE, GlobalSVD(adaptive=True, rank_multiple=1)])
def test_budget_is_used(calibration: Calibration, network: nn.Module, method) -> None:
    made = plan(network, calibration, method, Budget(3))
    assert made.macs >= 0.98 * made.dense_macs / 3


def test_one_region_and_one_cluster_is_adaptive_global_svd(calibration: Calibration, network: nn.Module) -> None:
    hierarchical = plan(network, calibration, HSCC(regions=((1, 1),), clusters=(1,)), Budget(4))
    control = plan(network, calibration, GlobalSVD(adaptive=True), Budget(4))
    assert hierarchical.layers == control.layers
    for name, state in control.weights.items():
        for key, value in state.items():
            assert torch.equal(value, hierarchical.weights[name][key])


def test_search_predicts_no_worse_than_its_own_control(calibration: Calibration, network: nn.Module) -> None:
    searched = plan(network, calibration, FINE, Budget(4))
    control = plan(network, calibration, GlobalSVD(adaptive=True, rank_multiple=1), Budget(4))
    assert searched.loss <= control.loss * 1.001


def test_loss_falls_as_the_budget_grows(calibration: Calibration, network: nn.Module) -> None:
    losses = [plan(network, calibration, FINE, Budget(ratio)).loss for ratio in (8, 5, 3, 2, 1.3)]
    assert losses == sorted(losses, reverse=True)


def test_predicted_loss_is_the_quadratic_form_on_the_images(
    calibration: Calibration, network: nn.Module, images: torch.Tensor
) -> None:
    made = plan(network, calibration, FINE, Budget(5))
    small = apply(network, made)
    entry = next(e for e in made.layers if e.structure.kind == "low_rank" and e.layer.kind == "conv")
    layer, moments = entry.layer, calibration.moments[entry.layer.name]
    inputs = network[: int(layer.name)](images)
    dense, factored = network[int(layer.name)](inputs), small[int(layer.name)](inputs)
    everywhere, measured = whole_layer(moments, calibration.images).sensitivity, 0.0
    for region in entry.structure.regions:
        top, bottom, left, right = tile_rectangle(region.tile, layer.grid, calibration.cells)
        seen = layer_region(moments, layer, calibration.cells, region.tile, calibration.images)
        sensitivity = weighting(seen, everywhere, FINE.shrinkage).sensitivity
        difference = (dense - factored)[:, :, top:bottom, left:right].detach()
        measured += float(torch.einsum("nohw,op,nphw->", difference, sensitivity, difference)) / len(images)
    assert measured == pytest.approx(entry.loss, rel=1e-6)


def test_bias_correction_keeps_the_mean(calibration: Calibration, network: nn.Module, images: torch.Tensor) -> None:
    made = plan(network, calibration, FINE, Budget(5))
    small = apply(network, made)
    dense, factored = network[0](images), small[0](images)
    torch.testing.assert_close(dense.mean((0, 2, 3)), factored.mean((0, 2, 3)), rtol=1e-6, atol=1e-9)


def test_factors_are_balanced(calibration: Calibration, network: nn.Module) -> None:
    made = plan(network, calibration, GlobalSVD(adaptive=True), Budget(4))
    checked = 0
    for state in made.weights.values():
        if "encoders.0.weight" in state:
            rows = state["encoders.0.weight"].flatten(1).norm(dim=1)
            torch.testing.assert_close(rows, state["decoder.weight"].flatten(1).norm(dim=0))
            checked += 1
    assert checked


def test_same_seed_same_plan_to_the_bit(calibration: Calibration, network: nn.Module) -> None:
    first, second = (plan(network, calibration, FINE, Budget(4), seed=7) for _ in range(2))
    assert first.to_json() == second.to_json()
    for name, state in first.weights.items():
        assert all(torch.equal(value, second.weights[name][key]) for key, value in state.items())


def test_plan_survives_json(calibration: Calibration, network: nn.Module) -> None:
    for method in METHODS.values():
        made = plan(network, calibration, method, Budget(3))
        read = Plan.from_json(made.to_json())
        assert read.layers == made.layers
        assert read.macs == made.macs


def test_printed_plan_names_every_layer_and_why_it_is_dense(calibration: Calibration, network: nn.Module) -> None:
    text = str(plan(network, calibration, HSCC(), Budget(3)))
    for layer in calibration.layers:
        assert f" {layer.name} " in text
    for reason in calibration.left_dense.values():
        assert reason in text


@pytest.mark.parametrize("method", list(METHODS.values()), ids=list(METHODS))
def test_saved_network_is_the_same(tmp_path, calibration: Calibration, network: nn.Module, method) -> None:
    made = plan(network, calibration, method, Budget(3))
    small = apply(network, made)
    save(small, made, tmp_path)
    images = tiny_images(3)
    assert torch.equal(load(tmp_path, tiny_network())(images), small(images))


def test_own_network_needs_its_dense_form_to_load(tmp_path, calibration: Calibration, network: nn.Module) -> None:
    made = plan(network, calibration, Tucker(), Budget(3))
    save(apply(network, made), made, tmp_path, Origin())
    with pytest.raises(ArtifactError, match="pass the dense one"):
        load(tmp_path)


def test_missing_network_is_named(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="hscc compress"):
        load(tmp_path)


def test_apply_leaves_the_model_alone(calibration: Calibration, network: nn.Module) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    small = apply(network, plan(network, calibration, HSCC(), Budget(3)))
    assert small is not network
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_three_in_one_is_plan_and_apply() -> None:
    network, images = tiny_network(torch.float32), tiny_images(32, torch.float32)
    small = compress(network, images.split(16), HSCC(), Budget(2))
    assert count_macs(small, SHAPE) <= count_macs(network, SHAPE) / 2
    assert small(images).dtype == torch.float32


@pytest.mark.parametrize("ratio", [1.0, 0.5, float("nan")])
def test_budget_must_compress(ratio: float) -> None:
    with pytest.raises(BudgetError, match="above 1"):
        Budget(ratio)


def test_impossible_budget_names_what_is_possible(calibration: Calibration, network: nn.Module) -> None:
    with pytest.raises(BudgetError, match=r"\d"):
        plan(network, calibration, HSCC(), Budget(1e6))


def test_calibration_of_another_network_is_refused(calibration: Calibration) -> None:
    with pytest.raises(CompressionError, match="another network"):
        plan(nn.Sequential(nn.Conv2d(3, 4, 3)), calibration, HSCC(), Budget(2))
