from __future__ import annotations

import numpy as np
import pytest

from hscc.calibration.layers import Layer
from hscc.pipeline.insight.pictures import SIDE
from hscc.pipeline.insight.rank_maps import describe, full_rank, rank_map, rank_rows, rank_scale, summary
from hscc.plans import LayerPlan
from hscc.structures.base import Structure
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.structures.spatial import Separable
from hscc.structures.tucker import Tucker2

CONV = Layer("conv", "conv", 8, 20, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), "constant", (14, 14), (14, 14), True)


def regional() -> LayerPlan:
    """An irregular region of two clusters, one of them dropped; one column that is constant."""
    left = Region(((0, 1, 0, 1), (1, 2, 0, 1)), (Block((0, 1, 2), 5), Block((3, 4, 5, 6, 7), 0)))
    right = Region(((0, 2, 1, 2),), (Block(tuple(range(8)), 0),))
    return LayerPlan(CONV, LowRank(2, (left, right)))


def test_a_cell_holds_its_region_s_share_of_the_full_rank() -> None:
    found = rank_map(regional())
    assert found.shares is not None
    assert found.shares.tolist() == [[0.25, 0.0], [0.25, 0.0]]
    assert found.region.tolist() == [[0, 1], [0, 1]]
    assert not found.is_flat
    assert describe(found) == "2 regions, 1 of 3 clusters kept, 2 of 4 cells constant: rank 0 to 5 of 20"


def test_more_rank_than_full_is_full() -> None:
    blocks = (Block((0, 1, 2, 3), 15), Block((4, 5, 6, 7), 15))
    found = rank_map(LayerPlan(CONV, LowRank(1, (Region(((0, 1, 0, 1),), blocks),))))
    assert found.shares is not None and found.shares.item() == 1.0
    assert found.is_flat and describe(found).endswith("rank 20 of 20, the same everywhere")


@pytest.mark.parametrize(
    ("structure", "share", "words"),
    [
        (DENSE, 1.0, "full rank"),
        (Tucker2((4, 10)), 0.5, "one region: rank 10 of 20"),
        (Tucker2((1, 15)), 0.45, "rank 9 of 20"),
        (Separable(6), None, "no rank over the whole layer"),
    ],
)
def test_structures_without_regions_are_described(structure: Structure, share: float | None, words: str) -> None:
    found = rank_map(LayerPlan(CONV, structure))
    assert found.is_flat and words in describe(found)
    assert (None if found.shares is None else found.shares.item()) == share


def test_only_layers_with_regions_are_drawn() -> None:
    maps = [rank_map(regional()), rank_map(LayerPlan(CONV, DENSE))]
    rows, pictures = rank_rows(maps, np.full((32, 32), 128, dtype=np.uint8))
    assert [row["picture"] for row in rows] == ["rank-conv.png", None]
    assert list(pictures) == ["rank-conv.png"] and pictures["rank-conv.png"].size == (SIDE, SIDE)
    assert rows[0]["rank_map"] == [[0.25, 0.0], [0.25, 0.0]]
    assert (rows[0]["positions"], rows[0]["full_rank"]) == (196, full_rank(CONV))
    assert rank_scale(maps) == 0.25 and rank_scale(maps[1:]) == 1.0
    assert summary(maps) == "1 of 2 layers have regions; 1 of their 3 spatio-channel clusters have a rank"
    assert summary(maps[1:]).startswith("no layer has regions")
