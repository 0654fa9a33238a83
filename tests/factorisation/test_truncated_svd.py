"""The randomised decomposition is bounded by the exact one, and the same at each call."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.factorisation import truncated_svd as module
from hscc.factorisation.truncated_svd import randomised_svd, truncated_svd


def matrix(rows: int, columns: int, decay: float, seed: int) -> torch.Tensor:
    """Random singular vectors, singular values falling as a power of their index; flat for a decay of 0."""
    generator = torch.Generator().manual_seed(seed)
    size = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, size, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, size, generator=generator, dtype=torch.float64)).Q
    return (left * torch.arange(1, size + 1, dtype=torch.float64) ** -decay) @ right.T


@settings(max_examples=25, deadline=None)
@given(st.integers(30, 120), st.integers(30, 120), st.floats(0, 2), st.integers(1, 20), st.integers(0, 10**6))
def test_the_error_is_near_the_smallest_possible(rows: int, columns: int, decay: float, rank: int, seed: int) -> None:
    whole = matrix(rows, columns, decay, seed)
    left, values, right = randomised_svd(whole, rank)
    smallest = float(torch.linalg.svdvals(whole)[rank:].square().sum())
    error = float((whole - (left * values) @ right).square().sum())
    assert smallest * (1 - 1e-9) - 1e-12 <= error <= 1.02 * smallest + 1e-12
    identity = torch.eye(rank, dtype=torch.float64)
    torch.testing.assert_close(left.T @ left, identity, rtol=0, atol=1e-9)
    torch.testing.assert_close(right @ right.T, identity, rtol=0, atol=1e-9)
    assert all(torch.equal(a, b) for a, b in zip((left, values, right), randomised_svd(whole, rank), strict=True))


@pytest.mark.parametrize("shape", [(40, 70), (70, 40)])
def test_few_ranks_of_a_large_matrix_are_found_at_random(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = matrix(*shape, decay=1.0, seed=0)
    exact = truncated_svd(whole, 5)
    monkeypatch.setattr(module, "_LARGE", 40)
    near = truncated_svd(whole, 5)
    assert [part.shape for part in near] == [part.shape for part in exact] == [(shape[0], 5), (5,), (5, shape[1])]
    torch.testing.assert_close(near[1], exact[1], rtol=1e-3, atol=0)
    assert not torch.equal(near[1], exact[1])
    assert torch.equal(truncated_svd(whole, 30)[1], torch.linalg.svd(whole, full_matrices=False).S[:30])
