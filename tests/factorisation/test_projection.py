"""Balancing a projection against what reads it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.factorisation.projection import balance_projection

TAPS = 3


def encoders(seed: int, widths: list[int], ranks: list[int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rank, width * TAPS, generator=generator, dtype=torch.float64)
        for width, rank in zip(widths, ranks, strict=True)
    ]


def read_by(regions: list[list[torch.Tensor]], widths: list[int]) -> torch.Tensor:
    """Norm of what reads each direction: root of the mean over the regions of its squares."""
    squares = [
        torch.cat([row.reshape(len(row), -1, TAPS).square().sum((0, 2)) for row in region]) for region in regions
    ]
    assert all(len(found) == sum(widths) for found in squares)
    return torch.stack(squares).mean(0).sqrt()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.lists(st.integers(1, 5), min_size=3, max_size=3),
    st.integers(1, 17),
    st.integers(0, 10**6),
)
def test_each_direction_has_the_norm_of_what_reads_it_in_a_region(
    widths: list[int], ranks: list[int], count: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(sum(widths), 5, generator=generator, dtype=torch.float64)
    regions = [encoders(seed + index, widths, ranks[: len(widths)]) for index in range(count)]
    scale = balance_projection(matrix, regions)
    read = scale.repeat_interleave(TAPS)
    divided = [
        [row / part for row, part in zip(region, read.split([w * TAPS for w in widths]), strict=True)]
        for region in regions
    ]
    torch.testing.assert_close((matrix * scale[:, None]).norm(dim=1), read_by(divided, widths))


def test_equal_regions_are_balanced_as_one() -> None:
    matrix = torch.randn(6, 5, dtype=torch.float64)
    region = encoders(1, [6], [4])
    torch.testing.assert_close(balance_projection(matrix, [region] * 16), balance_projection(matrix, [region]))
