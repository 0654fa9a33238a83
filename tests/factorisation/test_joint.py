"""Joint fits: the loss is the quadratic form, its gradient is right, and refinement only ever improves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.factorisation.joint import JointFit, Term, _Packing, _stacked

TAPS = 4


def problem(seed: int, channels: int = 6, outputs: int = 9, active: int = 6, dtype=torch.float64) -> JointFit:
    """A layer whose patches vary in the first `active` channels only."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(200, channels * TAPS, generator=generator, dtype=torch.float64)
    patches = patches @ torch.randn(channels * TAPS, channels * TAPS, generator=generator, dtype=torch.float64)
    patches[:, active * TAPS :] = 0
    gradients = torch.randn(30, outputs, generator=generator, dtype=torch.float64)
    weight = torch.randn(outputs, channels * TAPS, generator=generator, dtype=torch.float64)
    parts = (weight, patches.T @ patches / 200, gradients.T @ gradients / 30)
    return JointFit(*(part.to(dtype) for part in parts), TAPS)


def terms_of(fit: JointFit, sizes: list[tuple[int, int]]) -> list[Term]:
    terms: list[Term] = []
    for directions, rank in sizes:
        terms.append(fit.next_term(terms, directions, rank))
    return terms


sizes = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=1, max_size=3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), sizes)
def test_the_loss_is_the_quadratic_form_of_the_best_decoder(seed: int, drawn: list[tuple[int, int]]) -> None:
    fit = problem(seed)
    terms = terms_of(fit, drawn)
    rows = torch.cat([term.rows() for term in terms])
    best = fit.decoder(terms)

    def loss(decoder: torch.Tensor) -> float:
        rest = fit.weight - decoder @ rows
        return float((fit.sensitivity * (rest @ fit.covariance @ rest.T)).sum())

    assert fit.loss(terms) == pytest.approx(loss(best), rel=1e-6, abs=1e-9 * fit.energy)
    other = best + 0.1 * torch.randn(best.shape, generator=torch.Generator().manual_seed(1), dtype=best.dtype)
    assert loss(other) >= loss(best)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), sizes)
def test_the_gradient_is_that_of_the_loss(seed: int, drawn: list[tuple[int, int]]) -> None:
    fit = problem(seed)
    rng = np.random.default_rng(seed)
    start = terms_of(fit, drawn)
    packing = _Packing(start, fit)
    point = packing.point(start)
    point += 0.1 * rng.standard_normal(len(point))
    found = packing.terms(point)
    saved, by_rows = fit._saved(_stacked(found))
    assert saved == pytest.approx(fit.energy - fit.loss(found), rel=1e-9)
    step = 1e-6 * rng.standard_normal(len(point))
    ahead, behind = (fit.loss(packing.terms(point + sign * step)) for sign in (1, -1))
    expected = -(ahead - behind) / 2
    assert float(packing.gradient(found, by_rows) @ step) == pytest.approx(expected, rel=1e-3, abs=1e-11 * fit.energy)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), sizes, st.integers(1, 6), st.sampled_from([torch.float32, torch.float64]))
def test_refinement_is_never_worse_than_its_start(
    seed: int, drawn: list[tuple[int, int]], active: int, dtype: torch.dtype
) -> None:
    fit = problem(seed, active=active, dtype=dtype)
    start = terms_of(fit, drawn)
    refined = fit.refined(start, 20)
    assert fit.loss(refined) <= fit.loss(start)
    assert [(t.directions.shape, t.core.shape) for t in refined] == [
        (t.directions.shape, t.core.shape) for t in start
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_layer_of_two_terms_is_found(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    fit = problem(seed)
    hidden = [
        Term(
            torch.randn(2, 6, generator=generator, dtype=torch.float64),
            torch.randn(3, 2 * TAPS, generator=generator, dtype=torch.float64),
        )
        for _ in range(2)
    ]
    weight = torch.randn(9, 6, generator=generator, dtype=torch.float64) @ torch.cat([term.rows() for term in hidden])
    exact = JointFit(weight, fit.covariance, fit.sensitivity, TAPS)
    start = terms_of(exact, [(2, 3), (2, 3)])
    assert exact.loss(exact.refined(start, 500)) < min(1e-2 * exact.energy, exact.loss(start))


def test_further_terms_save_more() -> None:
    fit = problem(0)
    losses = [fit.loss(terms_of(fit, [(2, 3)] * count)) for count in (1, 2, 3)]
    assert fit.energy > losses[0] > losses[1] > losses[2] >= 0
