"""Eigenvalues of symmetric matrices, also of those at which LAPACK's float32 solver fails.

Channels that are always silent leave a covariance with many rows of zeros, and divide and conquer may then fail to
converge, or answer with NaN; in float64 it takes them.
"""

from __future__ import annotations

import torch


def eigh(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Eigenvalues, ascending, and eigenvectors, as `torch.linalg.eigh` gives them.

    Parameters
    ----------
    matrix : Tensor, shape (n, n)
        Symmetric.
    """
    try:
        values, vectors = torch.linalg.eigh(matrix)
        if torch.isfinite(values).all():
            return values, vectors
    except RuntimeError:  # torch's LinAlgError is one
        pass
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.to(matrix.dtype), vectors.to(matrix.dtype)


def eigvalsh(matrix: torch.Tensor) -> torch.Tensor:
    """Eigenvalues alone, ascending, as `torch.linalg.eigvalsh` gives them.

    Parameters
    ----------
    matrix : Tensor, shape (n, n)
        Symmetric.
    """
    try:
        values: torch.Tensor = torch.linalg.eigvalsh(matrix)
        if torch.isfinite(values).all():
            return values
    except RuntimeError:  # torch's LinAlgError is one
        pass
    exact: torch.Tensor = torch.linalg.eigvalsh(matrix.double())
    return exact.to(matrix.dtype)
