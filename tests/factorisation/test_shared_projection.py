"""The gradient by a shared projection, and that its directions are combinations of the wide ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.factorisation.shared_projection import _Region, saved

TAPS, WIDTH = 2, 5


def region(generator: torch.Generator, rank: int) -> _Region:
    patches = torch.randn(60, WIDTH * TAPS, generator=generator, dtype=torch.float64)
    target = torch.randn(rank, WIDTH * TAPS, generator=generator, dtype=torch.float64)
    return _Region(3.0, patches.T @ patches / 60, target)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, WIDTH))
def test_the_gradient_is_that_of_what_is_saved(seed: int, ranks: list[int], size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    regions = [region(generator, rank) for rank in ranks]
    drawn, step = (torch.randn(WIDTH, size, generator=generator, dtype=torch.float64) for _ in range(2))
    # Rows at right angles: behind nearly dependent ones the difference quotient, not the gradient, loses its digits.
    mixed, step = 2 * torch.linalg.qr(drawn).Q.T.contiguous(), step.T.contiguous()
    total, gradient = saved(regions, mixed, TAPS)
    ahead, behind = (saved(regions, mixed + sign * 1e-6 * step, TAPS)[0] for sign in (1, -1))
    assert float((gradient * step).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-4, abs=1e-6 * total)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, WIDTH))
def test_what_is_saved_depends_on_the_space_of_the_directions_alone(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    regions = [region(generator, 3)]
    mixed = torch.randn(size, WIDTH, generator=generator, dtype=torch.float64)
    turned = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q @ mixed
    assert saved(regions, turned, TAPS)[0] == pytest.approx(saved(regions, mixed, TAPS)[0], rel=1e-6)
    whole = saved(regions, torch.eye(WIDTH, dtype=torch.float64), TAPS)[0]
    assert saved(regions, mixed, TAPS)[0] <= whole * (1 + 1e-9)
