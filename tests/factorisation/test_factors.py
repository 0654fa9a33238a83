"""The decoder that is fitted to an encoder."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.calibration.moments import RegionMoments
from hscc.factorisation.factors import Encoder, region_factors
from hscc.factorisation.spectra import Norm, spectrum


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1e-8, 1e-10, 1e-12, 1e-14, 1e-15, 0.0]), st.integers(1, 4))
def test_full_rank_gives_the_weight_however_small_a_variance_is(seed: int, variance: float, silent: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 8, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64)).Q
    variances = torch.tensor([1.0, 0.5, 0.3, 0.1, 0.05, 0.02, 0.01, 0.01], dtype=torch.float64)
    variances[8 - silent :] = variance
    covariance = (basis * variances) @ basis.T
    identity = torch.eye(5, dtype=torch.float64)
    moments = RegionMoments(9.0, torch.zeros(8, dtype=torch.float64), covariance, None, identity)
    norm, columns = Norm(identity, "activation"), torch.arange(8)
    rows = spectrum(weight, moments, norm, columns).encoder(weight, 5)
    energy = float((weight @ covariance @ weight.T).trace())
    found = region_factors(weight, None, moments, norm, energy, Encoder([columns], [rows]))
    torch.testing.assert_close(found.decoder @ found.encoders[0], weight, rtol=0, atol=1e-9)
    assert found.loss == pytest.approx(0, abs=1e-9)
