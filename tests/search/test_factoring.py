"""Plans with block terms and with refined factors: true predictions, never worse, the same weights again."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.budgets.layer_graphs import layer_graphs
from hscc.calibration.collect import Calibration, calibrate
from hscc.calibration.layers import find_layers
from hscc.factorisation.joint import JointFit
from hscc.factorisation.region_context import LayerContext, whole_layer
from hscc.factorisation.spectra import LossWeighting, region_norm
from hscc.methods import HSCC, AdaptiveTucker
from hscc.partitions.regions import grid_tiles
from hscc.plans import Plan
from hscc.search.candidates import TermsOption, layer_options
from hscc.search.factoring import factor_terms
from hscc.search.low_rank import factor_low_rank
from hscc.search.space import SINGLE_CLUSTER, SINGLE_REGION, SearchSpace
from hscc.structures.block_terms import BlockTerms, block_terms
from hscc.structures.low_rank import Block, LowRank, Region

TERMS = HSCC(regions=1, clusters=1, projection=None, rank_multiple=1, terms=((4, 6), (6, 8)))
REGIONAL = HSCC(regions=2, clusters=1, projection=3, rank_multiple=1)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(32, 3, 14, 14, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network whose second convolution is two block terms of 4 directions and rank 6, and many outputs count."""
    torch.manual_seed(3)
    made = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(24 * 144, 16),
    ).double()  # fmt: skip
    terms = block_terms(2, 4, 6).module(find_layers(made, (3, 14, 14))[0][1]).double()
    directions, cores, decoder = (part.weight.detach() for part in (terms[0], terms[1].encoders[0], terms[1].decoder))
    read = directions.reshape(2, 4, 16)
    dense = torch.einsum("gsrij,grc->gscij", cores.reshape(2, 6, 4, 3, 3), read).reshape(12, 16, 3, 3)
    made[2].weight.data = torch.einsum("os,scij->ocij", decoder[:, :, 0, 0], dense)
    return made.eval()


@pytest.fixture(scope="module")
def calibration(network: nn.Module, images: torch.Tensor) -> Calibration:
    return calibrate(network, [images], cells=2)


@pytest.fixture(scope="module")
def made(calibration: Calibration, network: nn.Module) -> Plan:
    return plan(network, calibration, TERMS, Budget(2, only=True))


def with_terms(made: Plan) -> dict[str, BlockTerms]:
    return {e.layer.name: e.structure for e in made.layers if isinstance(e.structure, BlockTerms)}


def test_block_terms_are_chosen_where_they_lose_least(
    calibration: Calibration, network: nn.Module, made: Plan
) -> None:  # fmt: skip
    assert with_terms(made)
    assert made.loss < plan(network, calibration, replace(TERMS, terms=None), Budget(2, only=True)).loss


def test_the_predicted_loss_of_block_terms_is_that_on_the_images(
    calibration: Calibration, network: nn.Module, images: torch.Tensor, made: Plan
) -> None:
    small = apply(network, made)
    for entry in made.layers:
        if not isinstance(entry.structure, BlockTerms):
            continue
        index = int(entry.layer.name)
        inputs = network[:index](images)
        change = (network[index](inputs) - small[index](inputs)).detach()
        moments = whole_layer(calibration.moments[entry.layer.name], len(images))
        norm = region_norm(moments, moments.sensitivity, "output", TERMS.shrinkage).sensitivity
        measured = float(torch.einsum("nohw,op,nphw->", change, norm, change)) / len(images)
        assert measured == pytest.approx(entry.loss, rel=1e-5)
        torch.testing.assert_close(change.mean((0, 2, 3)), torch.zeros_like(change[0, :, 0, 0]), atol=1e-9, rtol=0)


def test_a_plan_with_block_terms_gives_the_same_weights_again(
    calibration: Calibration, network: nn.Module, made: Plan
) -> None:
    read = Plan.from_json(made.to_json())
    assert read.layers == made.layers
    expected, again = apply(network, made).state_dict(), apply(network, read, calibration).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in expected.items())


def test_block_terms_export_as_three_plain_convolutions(calibration: Calibration) -> None:
    layer = calibration.layers[1]
    (graph,) = layer_graphs(layer, [block_terms(3, 4, 6)])
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    groups = [onnx.helper.get_node_attr_value(node, "group") for node in convolutions]
    assert groups == [1, 3, 1]
    assert not {node.op_type for node in graph.graph.node} & {"Gather", "Slice", "Concat", "Split"}


@settings(max_examples=15, deadline=None)
@given(st.floats(1.5, 8), st.sampled_from([AdaptiveTucker(rank_multiple=1), replace(TERMS, projection="auto"), TERMS]))
def test_refinement_never_loses_more(calibration: Calibration, network: nn.Module, ratio: float, method) -> None:
    refined = plan(network, calibration, replace(method, refine=30), Budget(ratio, only=True))
    rough = plan(network, calibration, replace(method, refine=False), Budget(ratio, only=True))
    same = [entry.structure for entry in refined.layers] == [entry.structure for entry in rough.layers]
    for after, before in zip(refined.layers, rough.layers, strict=True):
        assert after.loss <= before.loss * (1 + 1e-9) or not same
    assert refined.loss <= rough.loss * (1 + 1e-9)


def test_refinement_improves_tucker(calibration: Calibration, network: nn.Module) -> None:
    refined, rough = (
        plan(network, calibration, AdaptiveTucker(refine=refine), Budget(4, only=True)).loss for refine in (True, False)
    )
    assert refined < 0.999 * rough


def test_more_terms_lose_less_and_start_the_refinement(calibration: Calibration, network: nn.Module) -> None:
    layer = calibration.layers[1]
    context = LayerContext(network, layer, calibration, LossWeighting())
    space = SearchSpace((SINGLE_REGION,), (SINGLE_CLUSTER,), LossWeighting(), 8, terms=((4, 6),))
    (option,) = [o for o in layer_options(context, calibration, space) if isinstance(o, TermsOption)]
    assert (option.saved >= 0).all()
    energy = context.joint_fit().energy * layer.positions
    for count, fit in enumerate(option.fits, start=1):
        loss, _ = factor_terms(context, option.structure.with_terms(count), fit, 0)
        assert loss == pytest.approx(energy - option.saved[:count].sum(), rel=1e-6)


def test_a_second_plan_finds_the_refined_terms_of_the_first(
    calibration: Calibration, network: nn.Module, made: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("refined again")

    monkeypatch.setattr(JointFit, "refined", refuse)
    again = plan(network, calibration, TERMS, made.budget)
    assert again.layers == made.layers
    calibration.cache.forget_spectra()
    with pytest.raises(AssertionError, match="refined again"):
        plan(network, calibration, TERMS, made.budget)


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 7), st.lists(st.integers(0, 6), min_size=4, max_size=4).filter(any))
def test_a_projection_that_regions_share_is_never_worse_refined(
    calibration: Calibration, network: nn.Module, directions: int, ranks: list[int]
) -> None:
    assert factored(calibration, network, directions, ranks, 60) <= factored(
        calibration, network, directions, ranks, 0
    ) * (1 + 1e-9)


def test_refinement_improves_a_projection_that_regions_share(calibration: Calibration, network: nn.Module) -> None:
    rough, refined = (factored(calibration, network, 4, [6, 5, 4, 3], rounds) for rounds in (0, 150))
    assert refined < 0.99 * rough


def factored(
    calibration: Calibration, network: nn.Module, directions: int, ranks: list[int], rounds: int
) -> float:  # fmt: skip
    """Predicted loss of 2 x 2 regions behind a projection."""
    layer = calibration.layers[1]
    regions = [
        Region((tile,), (Block(tuple(range(directions)), rank),))
        for tile, rank in zip(grid_tiles((2, 2), 2), ranks, strict=True)
    ]
    structure = LowRank(2, tuple(regions), projection=directions)
    return factor_low_rank(network, layer, calibration, LossWeighting(), structure, rounds)[0]
