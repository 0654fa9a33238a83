"""Plans whose layers are factored region by region and cluster by cluster, with ranks chosen under one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from hscc.budgets.resources import Limit
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.factorisation.projection import SHARES
from hscc.factorisation.region_context import LayerContext
from hscc.factorisation.spectra import LossWeighting
from hscc.plans import LayerPlan
from hscc.search.allocation import UnreachableError, allocate, loss_of
from hscc.search.candidates import (
    Option,
    TermsOption,
    chosen_structure,
    fit_terms,
    layer_options,
    rank_candidates,
)
from hscc.search.factoring import factor_ranks, factor_terms
from hscc.search.parallel import each_layer
from hscc.search.space import SINGLE_CLUSTER, SINGLE_REGION, SearchSpace
from hscc.structures.base import State, Structure, whole_tiles
from hscc.structures.block_terms import BlockTerms
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import LowRank

_NEAR = 1.25  # a uniform structure whose estimated loss is within this factor of the best is measured exactly too

LayerPlans = tuple[list[LayerPlan], dict[str, State]]


def plan_low_rank(
    model: nn.Module, calibration: Calibration, limits: Sequence[Limit], space: SearchSpace
) -> LayerPlans:
    """Choose structure and ranks of every layer, and compute the weights.

    The allocation adds the losses of clusters as if their inputs were uncorrelated; what is predicted is measured with
    all of them. So that a search never predicts worse than one of its own structures used throughout, those that come
    near are measured too and the best is taken.

    Parameters
    ----------
    model : nn.Module
        The dense network.
    calibration : Calibration
        Of the same network.
    limits : sequence of Limit
        For all layers of the calibration together.
    space : SearchSpace
        What to choose from.

    Returns
    -------
    plans : list of LayerPlan
        One per layer.
    weights : dict
        Layer name to the state of its replacement.

    Raises
    ------
    UnreachableError
        If the fewest ranks of the cheapest structures exceed a limit.
    """
    if any(getattr(limit.model, "cheap_regions", False) for limit in limits):
        space = replace(space, regional_shares=SHARES)
    regional = space.partitions != (SINGLE_REGION,)
    layers = [LayerContext(model, layer, calibration, space.weighting, regional) for layer in calibration.layers]
    options = each_layer(
        lambda context: layer_options(context, calibration, space),
        layers,
        "spectra",
        lambda context: context.layer.weights,
    )
    wanted: list[tuple[Layer, Structure]] = [(layer, DENSE) for layer in calibration.layers]
    wanted += [(layer, o.structure) for layer, found in zip(calibration.layers, options, strict=True) for o in found]
    for limit in limits:
        limit.model.prepare(wanted)
    best_loss, best = _plan_within(layers, calibration, limits, space, float("inf"))
    assert best is not None
    for uniform in _uniform(space):
        try:
            loss, plans = _plan_within(layers, calibration, limits, uniform, _NEAR * best_loss)
        except UnreachableError:
            continue
        if plans is not None and loss < best_loss:
            best_loss, best = loss, plans
    return best


def factor_low_rank(
    model: nn.Module,
    layer: Layer,
    calibration: Calibration,
    weighting: LossWeighting,
    structure: Structure,
    rounds: int = 0,
) -> tuple[float, State]:
    """Factors of a layer whose structure and ranks are known: predicted loss and state of the replacement.

    ``rounds`` as in `hscc.search.space.SearchSpace`.
    """
    assert isinstance(structure, LowRank)
    regional = [region.tiles for region in structure.regions] != [whole_tiles(layer.axes)]
    context = LayerContext(model, layer, calibration, weighting, regional)
    if isinstance(structure, BlockTerms):
        fits = fit_terms(context.joint_fit(), structure.terms, structure.directions, structure.term_rank)
        return factor_terms(context, structure, fits[-1], rounds)
    return factor_ranks(context, structure, rounds)


def _uniform(space: SearchSpace) -> list[SearchSpace]:
    spaces = [
        replace(space, partitions=(partition,), groupings=(grouping,), projections=(), terms=())
        for partition in space.partitions
        for grouping in space.groupings
    ]
    if space.projections and SINGLE_REGION in space.partitions and SINGLE_CLUSTER in space.groupings:
        spaces.append(replace(space, partitions=(SINGLE_REGION,), groupings=(SINGLE_CLUSTER,), terms=()))
    return spaces if len(spaces) > 1 or space.projections else []


def _plan_within(
    layers: Sequence[LayerContext], calibration: Calibration, limits: Sequence[Limit], space: SearchSpace, below: float
) -> tuple[float, LayerPlans | None]:
    """Plan, or give up (None) where the allocation's own estimate of the loss is not below a loss."""
    options = [layer_options(context, calibration, space) for context in layers]
    models = [limit.model for limit in limits]
    candidates = [
        rank_candidates(context.layer, found, space.multiple, models)
        for context, found in zip(layers, options, strict=True)
    ]
    chosen = allocate(candidates, [limit.most for limit in limits])
    if loss_of(candidates, chosen) >= below:
        return float("inf"), None

    def factor(index: int) -> tuple[LayerPlan, State | None]:
        context, choice = layers[index], chosen[index]
        if choice.candidate < 0:
            return LayerPlan(context.layer, DENSE, 0.0, "no factorisation saves enough for what it loses"), None
        option = options[index][choice.candidate]
        structure = chosen_structure(option, candidates[index].candidates[choice.candidate], choice)
        loss, state = _factor(context, structure, option, space.rounds)
        context.forget()
        return LayerPlan(context.layer, structure, loss), state

    made = each_layer(factor, range(len(chosen)), "factors", lambda index: layers[index].layer.weights)
    weights = {entry.layer.name: state for entry, state in made if state is not None}
    plans = [entry for entry, _ in made]
    return sum(entry.loss for entry in plans), (plans, weights)


def _factor(
    context: LayerContext, structure: LowRank, option: Option | TermsOption, rounds: int
) -> tuple[float, State]:  # fmt: skip
    if isinstance(option, TermsOption):
        assert isinstance(structure, BlockTerms)
        return factor_terms(context, structure, option.fits[structure.terms - 1], rounds)
    return factor_ranks(context, structure, rounds)
