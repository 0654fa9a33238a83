"""The weights of a layer whose structure and ranks are chosen, and the loss that they predict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from hscc.factorisation.factors import Encoder, RegionFactors, region_factors
from hscc.factorisation.joint import Term
from hscc.factorisation.projection import balance_projection
from hscc.factorisation.region_context import LayerContext, RegionContext, dense_bias
from hscc.factorisation.shared_projection import refined_projection
from hscc.factorisation.spectra import spectrum
from hscc.search.candidates import block_columns
from hscc.structures.base import State
from hscc.structures.low_rank import LowRank


def factor_ranks(context: LayerContext, structure: LowRank, rounds: int) -> tuple[float, State]:
    """Factors by the spectra of a structure's blocks, with what is behind a projection refined together with it.

    Parameters
    ----------
    context : LayerContext
        Of the layer.
    structure : LowRank
        With its ranks.
    rounds : int
        Most rounds of the joint refinement; 0 for none.

    Returns
    -------
    float
        Predicted loss.
    dict
        State of the replacement.
    """
    contexts = context.of_structure(structure)
    rows = [
        [_encoder(known, block_columns(context.layer, block), block.rank) for block in region.blocks]
        for region, known in zip(structure.regions, contexts, strict=True)
    ]
    matrix = context.directions(structure.projection)[: structure.projection] if structure.projection else None
    found = _assembled(context, structure, contexts, rows, matrix)
    if not rounds or matrix is None or context.weighting.by != "output":
        return found
    if len(structure.regions) == 1:
        refined = factor_terms(context, structure, [Term(matrix, rows[0][0])], rounds)
    else:
        refined = _factor_regions(context, structure, rounds)
    return min(found, refined, key=lambda result: result[0])


def factor_terms(
    context: LayerContext, structure: LowRank, terms: Sequence[Term], rounds: int
) -> tuple[float, State]:  # fmt: skip
    """Factors of a structure that has one region, by block terms that are refined together.

    Parameters
    ----------
    context : LayerContext
        Of the layer.
    structure : LowRank
        With one block per term.
    terms : sequence of Term
        Where to start.
    rounds : int
        Most rounds of the joint refinement; 0 for none.

    Returns
    -------
    float
        Predicted loss.
    dict
        State of the replacement.
    """
    key = (context.layer.name, structure, context.weighting, rounds)
    fitted = context.cache.refined(key, lambda: context.joint_fit().refined(terms, rounds)) if rounds else list(terms)
    matrix = torch.cat([term.directions for term in fitted])
    contexts = context.of_directions([structure.regions[0].tiles], matrix)
    return _assembled(context, structure, contexts, [[term.core for term in fitted]], matrix)


def _factor_regions(context: LayerContext, structure: LowRank, rounds: int) -> tuple[float, State]:
    """Factors of several regions behind one projection, which is refined for them."""
    tiles = [region.tiles for region in structure.regions]
    ranks = [region.rank for region in structure.regions]
    wide = context.directions(structure.projection)

    def refine() -> torch.Tensor:
        contexts = context.of_regions(tiles, len(wide))
        return refined_projection(contexts, ranks, structure.projection, context.layer.taps, rounds) @ wide

    matrix = context.cache.refined((context.layer.name, structure, context.weighting, rounds), refine)
    contexts = context.of_directions(tiles, matrix)
    columns = torch.arange(structure.projection * context.layer.taps)
    rows = [[_encoder(known, columns, rank)] for known, rank in zip(contexts, ranks, strict=True)]
    return _assembled(context, structure, contexts, rows, matrix)


def _assembled(
    context: LayerContext,
    structure: LowRank,
    contexts: Sequence[RegionContext],
    rows: Sequence[list[torch.Tensor]],
    matrix: torch.Tensor | None,
) -> tuple[float, State]:
    """Fit the decoders to encoders, measure the loss and fill the module."""
    bias = dense_bias(context.model, context.layer)
    factors: list[RegionFactors] = []
    loss = 0.0
    for region, known, encoders in zip(structure.regions, contexts, rows, strict=True):
        columns = [block_columns(context.layer, block) for block in region.blocks]
        offset_bias = bias if known.offset is None else known.offset + (0 if bias is None else bias)
        encoder = Encoder(columns, encoders)
        found = region_factors(known.weight, offset_bias, known.moments, known.norm, known.energy, encoder)
        factors.append(found)
        loss += found.loss + known.lost * known.moments.positions
    if matrix is None:
        return loss, structure.state(context.layer, factors)
    directions, factors = _balanced(matrix, factors)
    return loss, structure.state(context.layer, factors, directions)


def _balanced(directions: torch.Tensor, factors: list[RegionFactors]) -> tuple[torch.Tensor, list[RegionFactors]]:
    scale = balance_projection(directions, [found.encoders for found in factors])
    divided = []
    for found in factors:
        taps = sum(row.shape[1] for row in found.encoders) // len(directions)
        widths = [row.shape[1] // taps for row in found.encoders]
        parts = zip(found.encoders, scale.split(widths), strict=True)
        divided.append(replace(found, encoders=[row / part.repeat_interleave(taps) for row, part in parts]))
    return directions * scale[:, None], divided


def _encoder(known: RegionContext, columns: torch.Tensor, rank: int) -> torch.Tensor:
    """First rows of the encoder of one block of a region, shape (rank, d_c)."""
    part = known.weight if len(columns) == known.weight.shape[1] else known.weight[:, columns]
    if not rank:
        return part[:0]
    return spectrum(known.weight, known.moments, known.norm, columns, *known.known(columns)).encoder(part, rank)
