"""A narrow weight's spectrum, solved on the side of its features, is that of its weighted outputs."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.calibration.moments import RegionMoments
from hscc.factorisation.spectra import Norm, is_narrow, rank_losses, spectrum


def spread(size: int, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Covariance of a few samples, singular where they are fewer than its size."""
    rows = torch.randn(samples, size, generator=generator, dtype=torch.float64)
    return rows.T @ rows / samples


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 10), st.integers(1, 30), st.booleans(), st.integers(0, 10**6))
def test_both_sides_have_the_same_spectrum(features: int, samples: int, told: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = 2 * features
    assert is_narrow(features, outputs)
    weight = torch.randn(outputs, features, generator=generator, dtype=torch.float64)
    covariance = spread(features, samples, generator)
    sensitivity = spread(outputs, 40, generator) + 0.01 * torch.eye(outputs, dtype=torch.float64)
    mean = torch.zeros(features, dtype=torch.float64)
    moments, norm = RegionMoments(3.0, mean, covariance, None, sensitivity), Norm(sensitivity, "output")
    columns = torch.arange(features)
    weighted = sensitivity @ weight if told else None
    found = spectrum(weight, moments, norm, columns, weighted=weighted)
    wide = spectrum(weight, moments, norm, columns, outputs=weight @ covariance @ weight.T)

    scale = float(wide.values[0])
    torch.testing.assert_close(found.values, wide.values, rtol=1e-6, atol=1e-9 * scale)
    values = rank_losses(weight, moments, norm, columns, weighted=weighted)
    torch.testing.assert_close(values, found.values, rtol=1e-6, atol=1e-9 * scale)
    # What the first direction saves is its eigenvalue, whichever side it was found on.
    row = found.encoder(weight, 1)
    code = row @ covariance @ row.T
    cross = row @ covariance @ weight.T
    saved = 3.0 * float((cross @ sensitivity @ cross.T) / code)
    assert abs(saved - float(found.values[0])) <= 1e-6 * scale
