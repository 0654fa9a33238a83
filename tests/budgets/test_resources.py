"""A resource that a user adds is limited like those that are built in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.budgets.resources import RESOURCES, Counted, Params, Resource
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.errors import BudgetError
from hscc.methods import HSCC, METHODS, Method
from hscc.plans import Plan
from hscc.structures.base import Structure
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region


class Bytes(Counted):
    """Bytes of weights in half precision."""

    params = Params()

    def of_structure(self, layer: Layer, structure: Structure) -> float:
        return 2 * self.params.of_structure(layer, structure)

    def fixed(self, layer: Layer, structure: LowRank) -> float:
        return 2 * self.params.fixed(layer, structure)

    def of_rank(self, layer: Layer, structure: LowRank, region: Region, block: Block) -> float:
        return 2 * self.params.of_rank(layer, structure, region, block)


class Written(Counted):
    """Numbers that a layer writes, those between its factors included: no multiple of MACs or parameters."""

    def of_structure(self, layer: Layer, structure: Structure) -> float:
        if isinstance(structure, LowRank):
            ranks = (
                block.rank * self.of_rank(layer, structure, region, block)
                for region in structure.regions
                for block in region.blocks
            )
            return self.fixed(layer, structure) + sum(ranks)
        return 4.0 * layer.outputs * layer.positions

    def fixed(self, layer: Layer, structure: LowRank) -> float:
        return 0.25 * layer.outputs * layer.positions + structure.projection * layer.positions

    def of_rank(self, layer: Layer, structure: LowRank, region: Region, block: Block) -> float:
        return structure.region_positions(layer, region)


def _count(resource: str, calibration: Calibration, plan: Plan | None = None) -> float:
    """Of all layers, dense or as planned."""
    model = RESOURCES[resource].model
    if plan is None:
        return sum(model.of_structure(layer, DENSE) for layer in calibration.layers)
    return sum(model.of_structure(entry.layer, entry.structure) for entry in plan.layers)


METHOD = HSCC(regions=(1, (2, 1)), clusters=(1, 2), rank_multiple=1, projection=None)
REST = 0.5  # of what no layer of the calibration writes: not a whole number


@pytest.fixture(autouse=True, scope="module")
def _added(calibration: Calibration) -> Iterator[None]:
    RESOURCES["bytes"] = Resource(Bytes(), lambda network, shape: 2 * sum(p.numel() for p in network.parameters()))
    RESOURCES["written"] = Resource(Written(), lambda network, shape: _count("written", calibration) + REST)
    yield
    del RESOURCES["bytes"], RESOURCES["written"]


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(1.05, 2.5), st.sampled_from([None, 1.5, 4.0]), st.sampled_from([None, 1.5, 4.0]))
def test_every_resource_of_a_budget_is_kept(
    network: nn.Module, calibration: Calibration, written: float, macs: float | None, size: float | None
) -> None:
    budget = Budget(macs=macs, written=written, bytes=size)
    made = plan(network, calibration, METHOD, budget)
    used = (_count("written", calibration, made) + REST) * written / (_count("written", calibration) + REST)
    assert used <= 1
    if macs is size is None:
        assert used >= 0.98 or made.bound
    if macs:
        assert made.macs <= made.dense_macs / macs
    if size:
        assert 2 * made.params <= 2 * made.dense_params / size
    assert Plan.from_json(made.to_json()).budget == budget


@pytest.mark.parametrize("method", [METHODS["hscc"], METHODS["tucker"]], ids=["hscc", "tucker"])
def test_a_multiple_of_a_resource_gives_the_same_plan(
    network: nn.Module, calibration: Calibration, method: Method
) -> None:
    bytes_, params = (plan(network, calibration, method, budget) for budget in (Budget(bytes=3), Budget(params=3)))
    assert bytes_.layers == params.layers and bytes_.bound == params.bound
    assert apply(network, bytes_).hscc_plan.budget == Budget(bytes=3)


def test_what_cannot_be_reached_names_the_resource(network: nn.Module, calibration: Calibration) -> None:
    with pytest.raises(BudgetError, match=r"written=\d"):
        plan(network, calibration, HSCC(), Budget(written=1e9))


def test_an_unknown_resource_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"joules.*written.*RESOURCES"):
        Budget(macs=6, joules=3)


def test_a_resource_that_was_not_counted_is_refused() -> None:
    with pytest.raises(BudgetError, match="bytes"):
        Budget(macs=6, bytes=3).limits({"macs": 600})


def test_budgets_are_values() -> None:
    budget = Budget(macs=6, written=2, bytes=3)
    assert budget == Budget(bytes=3, written=2, macs=6) and hash(budget) == hash(replace(budget))
    assert replace(budget, macs=4).ratios == {"macs": 4, "bytes": 3, "written": 2}
