"""Plans: budgets are met, predictions are true, controls coincide where they must."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.api import apply, compress, plan
from hscc.budgets.budget import Budget
from hscc.budgets.estimate import NEGLIGIBLE, estimates
from hscc.budgets.resources import Limit
from hscc.calibration.collect import Calibration, calibrate
from hscc.calibration.layers import tile_box
from hscc.errors import BudgetError, CompressionError
from hscc.factorisation.region_context import LayerContext, regional_moments, whole_layer
from hscc.factorisation.spectra import LossWeighting, region_norm
from hscc.methods import HSCC, METHODS, AdaptiveTucker, GlobalSVD, Method
from hscc.networks.cost import count_macs, count_parameters
from hscc.partitions.regions import Grid
from hscc.plans import Plan
from hscc.search.allocation import UnreachableError
from hscc.structures.base import whole_tiles
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import LowRank
from tests.tiny import tiny_images, tiny_network

SHAPE = (3, 18, 18)
FINE = HSCC(rank_multiple=1, clusters=(1, 2))
budgets = st.one_of(
    st.builds(Budget, st.floats(1.05, 40)),
    st.builds(lambda ratio: Budget(params=ratio), st.floats(1.05, 40)),
    st.builds(Budget, st.floats(1.05, 20), st.floats(1.05, 20)),
    st.builds(lambda ratio: Budget(ratio, only=True), st.floats(1.05, 40)),
)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(METHODS)), budgets)
def test_no_budget_is_exceeded_on_the_real_modules(
    calibration: Calibration, network: nn.Module, name: str, budget: Budget
) -> None:
    try:
        made = plan(network, calibration, METHODS[name], budget)
    except BudgetError as error:
        assert "the most it can do here is" in str(error) or "than the dense network has" in str(error)
        return
    small = apply(network, made)
    macs, params = count_macs(small, SHAPE), count_parameters(small)
    assert (macs, params) == (made.macs, made.params)
    assert macs <= count_macs(network, SHAPE) / (budget.macs or 1e-9)
    assert params <= count_parameters(network) / (budget.params or 1e-9)
    assert budget.only or params <= count_parameters(network)
    used = [made.macs * ratio / made.dense_macs for ratio in [budget.macs] if ratio]
    used += [made.params * ratio / made.dense_params for ratio in [budget.params] if ratio]
    assert max(used) >= 0.979 or made.bound


@pytest.mark.parametrize(
    "budget", [Budget(macs=3, only=True), Budget(params=3), Budget(macs=3, params=2, only=True)], ids=str
)
@pytest.mark.parametrize("method", [FINE, GlobalSVD(adaptive=True, rank_multiple=1)], ids=["hscc", "control"])
def test_a_budget_is_used(calibration: Calibration, network: nn.Module, method, budget: Budget) -> None:
    assert plan(network, calibration, method, budget).bound == ""


def test_a_budget_of_parameters_holds_the_weights_of_regions_down(calibration: Calibration, network: nn.Module) -> None:
    tiles = HSCC(regions=4, clusters=1, rank_multiple=1)
    free = plan(network, calibration, tiles, Budget(macs=3, only=True))
    bound = plan(network, calibration, tiles, Budget(macs=3, params=2, only=True))
    assert free.params > free.dense_params / 2 >= bound.params
    assert bound.loss >= free.loss


def test_a_budget_of_macs_alone_gives_no_network_that_is_larger_or_slower_than_the_dense_one(
    calibration: Calibration, network: nn.Module
) -> None:
    free, held = (plan(network, calibration, FINE, Budget(macs=1.2, only=only)) for only in (True, False))
    assert free.params > free.dense_params >= held.params and held.macs <= free.dense_macs / 1.2
    assert "parameters" in held.bound and str(held.budget) + " only" == str(free.budget)
    for model in estimates().values():
        used = sum(model.of_structure(entry.layer, entry.structure) for entry in held.layers)
        dense = sum(model.of_structure(entry.layer, DENSE) for entry in held.layers)
        assert used <= max(dense, NEGLIGIBLE)


def test_a_plan_that_keeps_within_the_dense_network_by_itself_is_that_of_its_budget_alone(
    calibration: Calibration, network: nn.Module
) -> None:
    default, only = (plan(network, calibration, GlobalSVD(), Budget(macs=3, only=only)) for only in (False, True))
    assert default.layers == only.layers and default.bound == only.bound


def test_what_cannot_be_had_within_the_dense_network_says_so(calibration: Calibration, network: nn.Module) -> None:
    with pytest.raises(BudgetError, match="only=True"):
        plan(network, calibration, Wasteful(), Budget(macs=1.5))
    assert plan(network, calibration, Wasteful(), Budget(macs=1.5, only=True)).params > count_parameters(network)


@dataclass(frozen=True)
class Wasteful(HSCC):
    """A method whose smallest network is larger than the dense one."""

    def plan_layers(self, model: nn.Module, calibration: Calibration, limits: Sequence[Limit], seed: int):
        plans, weights = HSCC(regions=4, clusters=1, rank_multiple=1).plan_layers(model, calibration, limits[:1], seed)
        if sum(entry.params for entry in plans) > limits[-1].most and len(limits) > 1:
            raise UnreachableError(np.asarray([limit.most for limit in limits]))
        return plans, weights


def test_plans_of_earlier_versions_bounded_nothing_but_what_they_name(
    calibration: Calibration, network: nn.Module
) -> None:
    text = plan(network, calibration, GlobalSVD(), Budget(macs=3)).to_json()
    assert Plan.from_json(text).budget == Budget(macs=3)
    content = json.loads(text)
    content["budget"] = {"macs": 3}
    assert Plan.from_json(json.dumps(content)).budget == Budget(macs=3, only=True)


def test_one_region_and_one_cluster_is_adaptive_global_svd(calibration: Calibration, network: nn.Module) -> None:
    assert_same_plan(network, calibration, HSCC(regions=1, clusters=1, projection=None), GlobalSVD(adaptive=True))


def test_one_region_and_one_cluster_behind_a_projection_is_adaptive_tucker(
    calibration: Calibration, network: nn.Module
) -> None:
    assert_same_plan(network, calibration, HSCC(regions=1, clusters=1), AdaptiveTucker())


def assert_same_plan(network: nn.Module, calibration: Calibration, method: Method, other: Method) -> None:
    hierarchical, control = (plan(network, calibration, each, Budget(4, only=True)) for each in (method, other))
    assert hierarchical.layers == control.layers
    for name, state in control.weights.items():
        for key, value in state.items():
            assert torch.equal(value, hierarchical.weights[name][key])


@pytest.mark.parametrize("ratio", [1.5, 4, 9])
def test_auto_is_never_worse_than_a_structure_it_includes(
    calibration: Calibration, network: nn.Module, ratio: float
) -> None:
    searched = plan(network, calibration, FINE, Budget(ratio, only=True))
    for regions in ((1, 1), (2, 1), (4, 1), (2, 2), (4, 4)):
        for clusters in (1, 2):
            fixed = replace(FINE, regions=regions, clusters=clusters)
            assert searched.loss <= plan(network, calibration, fixed, Budget(ratio, only=True)).loss * (1 + 1e-9)


@pytest.mark.parametrize("method", [FINE, HSCC(regions=2, clusters=2, rank_multiple=1), GlobalSVD(adaptive=True)])
def test_loss_falls_as_the_budget_grows(calibration: Calibration, network: nn.Module, method) -> None:
    losses = [plan(network, calibration, method, Budget(ratio, only=True)).loss for ratio in (8, 5, 3, 2, 1.3)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    "method",
    [FINE, HSCC(regions="merged", clusters=0.3, rank_multiple=1), HSCC(weighting="activation"), HSCC(weighting="none")],
    ids=["auto", "merged", "activation", "none"],
)
def test_predicted_loss_is_the_quadratic_form_on_the_images(
    calibration: Calibration, network: nn.Module, images: torch.Tensor, method: HSCC
) -> None:
    made = plan(network, calibration, method, Budget(5, only=True))
    small, checked = apply(network, made), 0
    for entry in made.layers:
        if not isinstance(entry.structure, LowRank):
            continue
        layer, moments = entry.layer, calibration.moments[entry.layer.name]
        inputs = network[: int(layer.name)](images)
        difference = (network[int(layer.name)](inputs) - small[int(layer.name)](inputs)).detach()
        measured = _measured(difference, entry.structure, layer, moments, method, len(images))
        assert measured == pytest.approx(entry.loss, rel=1e-5, abs=1e-12)
        checked += 1
    assert checked


def _measured(difference, structure: LowRank, layer, moments, method: HSCC, images: int) -> float:
    everywhere = whole_layer(moments, images)
    measured, difference = 0.0, difference.reshape(images, layer.outputs, *layer.grid)
    for region in structure.regions:
        single = len(structure.regions) == 1
        own = everywhere if single else regional_moments(moments, region.tiles, images)
        sensitivity = region_norm(own, everywhere.sensitivity, method.weighting, method.shrinkage).sensitivity
        for tile in region.tiles:
            top, bottom, left, right = tile_box(tile, layer.grid, structure.cells)
            part = difference[:, :, top:bottom, left:right]
            measured += float(torch.einsum("nohw,op,nphw->", part, sensitivity, part)) / images
    return measured


def test_bias_correction_keeps_the_mean(calibration: Calibration, network: nn.Module, images: torch.Tensor) -> None:
    made = plan(network, calibration, FINE, Budget(5))
    small = apply(network, made)
    dense, factored = network[0](images), small[0](images)
    torch.testing.assert_close(dense.mean((0, 2, 3)), factored.mean((0, 2, 3)), rtol=1e-6, atol=1e-9)


def test_factors_are_balanced(calibration: Calibration, network: nn.Module) -> None:
    made = plan(network, calibration, GlobalSVD(adaptive=True), Budget(4, only=True))
    checked = 0
    for state in made.weights.values():
        if "encoders.0.weight" in state:
            rows = state["encoders.0.weight"].flatten(1).norm(dim=1)
            torch.testing.assert_close(rows, state["decoder.weight"].flatten(1).norm(dim=0))
            checked += 1
    assert checked


def test_same_seed_same_plan_to_the_bit(network: nn.Module, images: torch.Tensor) -> None:
    first, second = (plan(network, calibrate(network, [images]), FINE, Budget(4, only=True), seed=7) for _ in range(2))
    assert first.to_json() == second.to_json()
    for name, state in first.weights.items():
        assert all(torch.equal(value, second.weights[name][key]) for key, value in state.items())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_plan_survives_json_and_gives_the_same_weights(calibration: Calibration, network: nn.Module, name: str) -> None:
    made = plan(network, calibration, METHODS[name], Budget(3, only=True))
    read = Plan.from_json(made.to_json())
    assert (read.layers, read.macs, read.params, read.budget) == (made.layers, made.macs, made.params, made.budget)
    expected, again = apply(network, made).state_dict(), apply(network, read, calibration).state_dict()
    assert expected.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in expected.items())


def test_a_plan_without_weights_asks_for_its_calibration(calibration: Calibration, network: nn.Module) -> None:
    read = Plan.from_json(plan(network, calibration, HSCC(), Budget(3)).to_json())
    with pytest.raises(CompressionError, match="pass its calibration"):
        apply(network, read)


def test_printed_plan_names_every_layer_and_why_it_is_dense(calibration: Calibration, network: nn.Module) -> None:
    text = str(plan(network, calibration, HSCC(), Budget(3)))
    for layer in calibration.layers:
        assert f" {layer.name} " in text
    for reason in calibration.left_dense.values():
        assert reason in text


def test_a_linear_layer_after_a_feature_map_takes_regions(calibration: Calibration, network: nn.Module) -> None:
    head = next(layer for layer in calibration.layers if layer.kind == "linear")
    assert head.input_grid == (3, 3)
    made = plan(network, calibration, HSCC(regions=3, clusters=1, rank_multiple=1), Budget(2, only=True))
    entry = next(entry for entry in made.layers if entry.layer.name == head.name)
    assert (entry.structure.region_count, len(entry.structure.regions[0].blocks)) == (9, 9)


def test_the_first_tile_of_a_fine_grid_is_not_the_whole_layer(calibration: Calibration, network: nn.Module) -> None:
    layer = calibration.layers[1]
    context = LayerContext(network, layer, calibration, LossWeighting())
    tiles = Grid(4, 4).tiles(layer, context.moments)
    assert tiles is not None
    corner, *others = context.of_regions(tiles, 0)
    assert corner.moments.positions + sum(region.moments.positions for region in others) == layer.positions
    (whole,) = context.of_regions([whole_tiles(2)], 0)
    assert whole.tiles == corner.tiles and whole.moments.positions == layer.positions


def test_regions_that_were_asked_for_stay_beside_a_projection(calibration: Calibration, network: nn.Module) -> None:
    made = plan(
        network, calibration, HSCC(regions=(2, 1), clusters=1, projection=4, rank_multiple=1), Budget(3, only=True)
    )
    factored = [e.structure for e in made.layers if isinstance(e.structure, LowRank) and e.layer.positions > 1]
    assert factored and all(structure.region_count == 2 for structure in factored)


def test_apply_leaves_the_model_alone(calibration: Calibration, network: nn.Module) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    small = apply(network, plan(network, calibration, HSCC(), Budget(3)))
    assert small is not network
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_three_in_one_is_plan_and_apply() -> None:
    network, images = tiny_network(torch.float32), tiny_images(32, torch.float32)
    small = compress(network, images.split(16), HSCC(), Budget(macs=2, params=1.5))
    assert count_macs(small, SHAPE) <= count_macs(network, SHAPE) / 2
    assert count_parameters(small) <= count_parameters(network) / 1.5
    assert small(images).dtype == torch.float32


def test_a_second_budget_finds_the_spectra_of_the_first(calibration: Calibration, network: nn.Module) -> None:
    plan(network, calibration, FINE, Budget(4, only=True))
    kept = len(calibration.cache)
    plan(network, calibration, FINE, Budget(6))
    assert len(calibration.cache) == kept > 0


@pytest.mark.parametrize("ratios", [{"macs": 1.0}, {"macs": 0.5}, {"macs": math.nan}, {"macs": 6, "params": 0.9}])
def test_budget_must_compress(ratios: dict) -> None:
    with pytest.raises(BudgetError, match="above 1"):
        Budget(**ratios)


@pytest.mark.parametrize("ratio", ["6", True, [6]])
def test_a_budget_is_a_number(ratio) -> None:
    with pytest.raises(BudgetError, match="not a number"):
        Budget(macs=ratio)


def test_applying_spends_no_random_numbers(calibration: Calibration, network: nn.Module) -> None:
    before = torch.random.get_rng_state()
    apply(network, plan(network, calibration, HSCC(), Budget(3)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_budget_needs_a_ratio() -> None:
    with pytest.raises(BudgetError, match="macs=6"):
        Budget()


def test_impossible_budget_names_the_most_that_is_possible(calibration: Calibration, network: nn.Module) -> None:
    with pytest.raises(BudgetError) as raised:
        plan(network, calibration, HSCC(), Budget(1e6, only=True))
    most = float(str(raised.value).rsplit("macs=", 1)[1].rstrip("."))
    assert plan(network, calibration, HSCC(), Budget(most, only=True)).macs > 0
    with pytest.raises(BudgetError):
        plan(network, calibration, HSCC(), Budget(most * 1.02, only=True))


def test_calibration_of_another_network_is_refused(calibration: Calibration, network: nn.Module) -> None:
    for other in (nn.Sequential(nn.Conv2d(3, 4, 3)), _retrained(network)):
        with pytest.raises(CompressionError, match="another network"):
            plan(other, calibration, HSCC(), Budget(2))


def _retrained(network: nn.Module) -> nn.Module:
    other = tiny_network()
    with torch.no_grad():
        other[0].weight += 0.1
    return other


def test_a_class_in_place_of_a_method_is_refused(calibration: Calibration, network: nn.Module) -> None:
    with pytest.raises(CompressionError, match="instance"):
        plan(network, calibration, HSCC, Budget(2))  # type: ignore[arg-type]
    with pytest.raises(CompressionError, match="Budget"):
        plan(network, calibration, HSCC(), 6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"regions": "circles"},
        {"regions": 0},
        {"clusters": 0},
        {"clusters": 1.5},
        {"weighting": "all"},
        {"shrinkage": 2},
        {"rank_multiple": 0},
    ],
    ids=str,
)
def test_a_wrong_setting_is_named(fields: dict) -> None:
    with pytest.raises(CompressionError, match=next(iter(fields))):
        HSCC(**fields)
