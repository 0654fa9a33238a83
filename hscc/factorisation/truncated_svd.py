"""Leading singular vectors of a matrix, without the rest where it is large.

Randomised range finder with power iterations (Halko, Martinsson and Tropp, 2011, algorithms 4.4 and 5.1): the products
of the matrix with a few more random vectors than are wanted span nearly its leading singular vectors; what remains is
the exact decomposition of a matrix that is as small as their number.
"""

from __future__ import annotations

import torch

_LARGE = 1500  # smaller side from which on an exact decomposition takes seconds
_SHARE = 0.6  # of the smaller side: for more ranks the exact decomposition is as fast
_OVERSAMPLING = 0.1  # of the rank, and 16 more
_POWERS = 3  # spectra of trained linear layers are flat: each power widens the gaps


def truncated_svd(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Leading singular values and vectors; approximate, and the same at each call, where both sides are large.

    Parameters
    ----------
    matrix : Tensor, shape (m, n)
        What to decompose.
    rank : int
        How many; at most the smaller side.

    Returns
    -------
    left : Tensor, shape (m, rank)
        Orthonormal columns.
    values : Tensor, shape (rank,)
        Descending.
    right : Tensor, shape (rank, n)
        Orthonormal rows.
    """
    if min(matrix.shape) < _LARGE or rank > _SHARE * min(matrix.shape):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return left[:, :rank], values[:rank], right[:rank]
    return randomised_svd(matrix, rank)


def randomised_svd(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Approximate leading singular values and vectors; arguments and results as of `truncated_svd`."""
    wide = matrix.shape[0] < matrix.shape[1]
    tall = matrix.T if wide else matrix
    width = min(rank + round(_OVERSAMPLING * rank) + 16, tall.shape[1])
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(tall.shape[1], width, generator=generator, dtype=matrix.dtype)
    basis = torch.linalg.qr(tall @ basis).Q
    for _ in range(_POWERS):
        basis = torch.linalg.qr(tall.T @ basis).Q
        basis = torch.linalg.qr(tall @ basis).Q
    inner, values, right = torch.linalg.svd(basis.T @ tall, full_matrices=False)
    left = basis @ inner[:, :rank]
    if wide:
        return right[:rank].T, values[:rank], left.T
    return left, values[:rank], right[:rank]
