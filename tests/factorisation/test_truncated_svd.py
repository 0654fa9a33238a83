"""Singular vectors by way of the smaller side are as good as those of the matrix."""

from __future__ import annotations

from unittest.mock import patch

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.factorisation import truncated_svd as module
from hscc.factorisation.truncated_svd import truncated_svd


def matrix(rows: int, columns: int, decay: float, seed: int, dtype: torch.dtype) -> torch.Tensor:
    """Random singular vectors, singular values falling as a power of their index; flat for a decay of 0."""
    generator = torch.Generator().manual_seed(seed)
    size = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, size, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, size, generator=generator, dtype=torch.float64)).Q
    values = torch.arange(1, size + 1, dtype=torch.float64) ** -decay
    return ((left * values) @ right.T).to(dtype)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(20, 80), st.integers(20, 80), st.floats(0, 2), st.integers(1, 20), st.integers(0, 10**6),
    st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_the_error_is_the_smallest_possible(
    rows: int, columns: int, decay: float, rank: int, seed: int, dtype: torch.dtype
) -> None:
    whole = matrix(rows, columns, decay, seed, dtype)
    with patch.object(module, "_LARGE", 1):
        left, values, right = truncated_svd(whole, rank)
    assert (left.shape, values.shape, right.shape) == ((rows, rank), (rank,), (rank, columns))
    exact = torch.linalg.svdvals(whole.double())
    error = float((whole - (left * values) @ right).double().square().sum())
    smallest, largest = float(exact[rank:].square().sum()), float(exact[0] ** 2)
    assert error <= smallest * (1 + 1e-5) + 100 * torch.finfo(dtype).eps * largest
    tolerance = 1e-4 if dtype == torch.float32 else 1e-9
    wide = rows <= columns  # the eigenvectors are those of the smaller side; the other side has unit length
    vectors, others = (left, right.T) if wide else (right.T, left)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(rank, dtype=dtype), rtol=0, atol=tolerance)
    torch.testing.assert_close(others.norm(dim=0), torch.ones(rank, dtype=dtype), rtol=0, atol=tolerance)
