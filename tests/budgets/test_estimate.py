"""The estimate of time: additive over ranks as the allocation needs it, and dearer for what runtimes pay for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hscc.budgets.estimate import Estimate
from hscc.calibration.collect import Calibration
from hscc.structures.base import whole_tiles
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region


def low_rank(inputs: int, tiles, clusters: int, rank: int, projection: int = 0) -> LowRank:
    read = projection or inputs
    edges = [read * index // clusters for index in range(clusters + 1)]
    blocks = tuple(Block(tuple(range(a, b)), rank) for a, b in pairwise(edges))
    return LowRank(4 if len(tiles) > 1 else 1, tuple(Region((tile,), blocks) for tile in tiles), projection=projection)


HALVES = ((0, 2, 0, 4), (2, 4, 0, 4))


@given(st.sampled_from([whole_tiles(2), HALVES]), st.integers(1, 4), st.integers(0, 9), st.sampled_from([0, 4]),
       st.sampled_from([1, 16]))  # fmt: skip
def test_a_structure_costs_what_its_ranks_cost_one_by_one(
    calibration: Calibration, tiles, clusters: int, rank: int, projection: int, batch: int
) -> None:
    layer, model = calibration.layers[1], Estimate(batch)
    structure = low_rank(layer.inputs, tiles, clusters, rank, projection)
    ranks = sum(
        model.of_rank(layer, structure, region, block) * block.rank
        for region in structure.regions
        for block in region.blocks
    )
    assert model.of_structure(layer, structure) == pytest.approx(model.fixed(layer, structure) + ranks)


@pytest.mark.parametrize("batch", [1, 16])
def test_tiles_and_clusters_cost_beyond_their_multiplications(calibration: Calibration, batch: int) -> None:
    layer, model = calibration.layers[1], Estimate(batch)
    plain, tiled, grouped = (
        low_rank(layer.inputs, *each, 4) for each in ((whole_tiles(2), 1), (HALVES, 1), (whole_tiles(2), 4))
    )
    assert tiled.macs(layer) == plain.macs(layer)
    assert model.of_structure(layer, tiled) > model.of_structure(layer, plain)
    assert model.fixed(layer, grouped) > model.fixed(layer, plain)
    assert model.of_structure(layer, DENSE) > 0
