"""Eigenvalues also where channels are silent or LAPACK gives up."""

from __future__ import annotations

import pytest
import torch

from hscc.factorisation.eigen import eigh, eigvalsh


def test_they_are_those_of_torch() -> None:
    rows = torch.randn(30, 12, generator=torch.Generator().manual_seed(0))
    values, vectors = eigh(rows.T @ rows)
    torch.testing.assert_close((vectors * values) @ vectors.T, rows.T @ rows, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(eigvalsh(rows.T @ rows), values, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fails", ["nan", "raises"])
def test_where_single_precision_fails_double_answers(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, whole, alone = torch.diag(torch.tensor([0.0, 1.0, 2.0])), torch.linalg.eigh, torch.linalg.eigvalsh

    def failing(real):
        def function(given: torch.Tensor):
            if given.dtype == torch.float64:
                return real(given)
            if fails == "raises":
                raise torch.linalg.LinAlgError("failed to converge")
            return torch.full((3,), torch.nan) if real is alone else (torch.full((3,), torch.nan), given)

        return function

    monkeypatch.setattr(torch.linalg, "eigh", failing(whole))
    monkeypatch.setattr(torch.linalg, "eigvalsh", failing(alone))
    values, vectors = eigh(matrix)
    assert values.tolist() == eigvalsh(matrix).tolist() == [0.0, 1.0, 2.0]
    assert values.dtype == vectors.dtype == torch.float32
    torch.testing.assert_close((vectors * values) @ vectors.T, matrix)
