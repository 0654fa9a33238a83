"""Each step of the refit solves its least-squares problem."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hscc.factorisation.chain import Chain, project_columns, project_rows
from hscc.factorisation.factors import RegionFactors
from hscc.refitting.moments import PairMoments
from hscc.refitting.steps import fit_all, fit_decoders, fit_encoders, fit_projection, loss

SIZES = st.fixed_dictionaries(
    {
        "regions": st.integers(1, 3),
        "blocks": st.integers(1, 3),
        "projection": st.sampled_from([0, 3, 4]),
        "encoders": st.booleans(),
        "seed": st.integers(0, 1000),
    }
)
INPUTS, TAPS, OUTPUTS = 5, 2, 6


def _problem(sizes: dict[str, int]) -> tuple[Chain, list[PairMoments], list[torch.Tensor]]:
    torch.manual_seed(sizes["seed"])
    torch.set_default_dtype(torch.float64)
    try:
        width = (sizes["projection"] or INPUTS) * TAPS
        projection = torch.randn(sizes["projection"], INPUTS) if sizes["projection"] else None
        moments, norms, regions, columns = [], [], [], []
        for _ in range(sizes["regions"]):
            rows = torch.randn(50, INPUTS * TAPS)
            covariance = rows.T @ rows / 50
            mean, target = torch.randn(INPUTS * TAPS), torch.randn(OUTPUTS)
            cross = torch.randn(OUTPUTS, INPUTS * TAPS)
            moments.append(PairMoments(1 / sizes["regions"], mean, target, covariance, None, cross))
            root = torch.randn(OUTPUTS, OUTPUTS)
            norms.append(root @ root.T + 0.1 * torch.eye(OUTPUTS))
            if sizes["encoders"] or projection is None:
                parts = [part.sort().values for part in torch.randperm(width).tensor_split(sizes["blocks"])]
                encoders = [torch.randn(1 + block % 2, len(part)) for block, part in enumerate(parts)]
            else:
                parts, encoders = [], []
            rank = sum(map(len, encoders)) if parts else width
            columns.append(parts)
            regions.append(RegionFactors(encoders, torch.randn(OUTPUTS, rank), torch.zeros(OUTPUTS), 0.0))
        return Chain(projection, columns, regions, True), moments, norms
    finally:
        torch.set_default_dtype(torch.float32)


@settings(max_examples=25, deadline=None)
@given(SIZES)
def test_decoders_are_the_weighted_least_squares_solution(sizes: dict[str, int]) -> None:
    chain, moments, norms = _problem(sizes)

    fitted = fit_decoders(chain, moments)

    for index, (own, norm) in enumerate(zip(moments, norms, strict=True)):
        encode = _encoder_matrix(chain, index)
        # vec(U) from the normal equations (V A V^T) x G of the whole problem, without any formula of the package.
        gram = torch.kron(norm, encode @ own.covariance @ encode.T)
        wanted = (norm @ own.cross @ encode.T).reshape(-1)
        expected = torch.linalg.solve(gram, wanted).reshape(OUTPUTS, -1)
        weight = expected @ encode
        size = float(weight.abs().max())  # codes that nearly depend on each other are solved with a little damping
        torch.testing.assert_close(weight, fitted.weight(index, INPUTS * TAPS), rtol=1e-2, atol=1e-2 * size)
        reached = fitted.weight(index, INPUTS * TAPS) @ own.input_mean + fitted.regions[index].bias
        torch.testing.assert_close(reached, own.target_mean)


def _encoder_matrix(chain: Chain, region: int) -> torch.Tensor:
    """V (P x I) of a region."""
    width = INPUTS * TAPS if chain.projection is None else len(chain.projection) * TAPS
    rows = torch.eye(width, dtype=torch.float64)
    if chain.columns[region]:
        parts = []
        for encoder, index in zip(chain.regions[region].encoders, chain.columns[region], strict=True):
            full = torch.zeros(len(encoder), width, dtype=torch.float64)
            full[:, index] = encoder
            parts.append(full)
        rows = torch.cat(parts)
    spread = torch.eye(TAPS, dtype=torch.float64)
    return rows if chain.projection is None else rows @ torch.kron(chain.projection, spread)


@settings(max_examples=25, deadline=None)
@given(SIZES)
def test_every_step_lowers_the_loss(sizes: dict[str, int]) -> None:
    chain, moments, norms = _problem(sizes)
    losses = [loss(chain, moments, norms)]

    chain = fit_decoders(chain, moments)
    losses.append(loss(chain, moments, norms))
    if chain.projection is not None:
        chain = fit_projection(chain, moments, norms)
        losses.append(loss(chain, moments, norms))
    for _ in range(3):
        chain = fit_all(chain, moments, norms, 1)
        losses.append(loss(chain, moments, norms))

    tolerance = 1e-5 * max(map(abs, losses))
    assert all(later <= earlier + tolerance for earlier, later in pairwise(losses)), losses


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000))
def test_encoders_and_projection_converge_to_stationary_points(seed: int) -> None:
    chain, moments, norms = _problem({"regions": 2, "blocks": 2, "projection": 3, "encoders": True, "seed": seed})
    moved = chain
    for _ in range(60):
        moved = fit_projection(moved, moments, norms)
    assert _gradient(moved, moments, norms).norm() < 1e-2 * _gradient(chain, moments, norms).norm()

    inner = moments[0].behind(chain.projection)
    factors = chain.regions[0]
    for _ in range(60):
        factors = fit_encoders(factors, chain.columns[0], inner, norms[0])
    weight = Chain(None, [chain.columns[0]], [factors], True).inner_weight(0, len(inner.input_mean))
    missing = factors.decoder.T @ norms[0] @ (inner.cross - inner.times(weight))
    first = chain.regions[0].decoder.T @ norms[0] @ inner.cross
    parts = missing.split([len(rows) for rows in factors.encoders])
    assert all(
        part[:, index].norm() < 0.02 * first.norm() for part, index in zip(parts, chain.columns[0], strict=True)
    )  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_a_channel_that_is_never_active_keeps_its_place_in_the_projection(seed: int) -> None:
    chain, moments, norms = _problem({"regions": 2, "blocks": 1, "projection": 3, "encoders": True, "seed": seed})
    alive = torch.arange(INPUTS * TAPS) >= TAPS  # the first channel is not
    noise = 1e-7 * torch.randn(OUTPUTS, INPUTS * TAPS, generator=torch.Generator().manual_seed(seed)).double()
    silent = [
        replace(own, covariance=own.covariance * torch.outer(alive, alive), cross=own.cross * alive + noise * ~alive)
        for own in moments
        if own.covariance is not None
    ]

    moved = fit_projection(chain, silent, norms).projection

    assert moved is not None
    assert chain.projection is not None
    assert (moved - chain.projection)[:, 0].norm() < 1e-3 * chain.projection.norm()


def _gradient(chain: Chain, moments: list[PairMoments], norms: list[torch.Tensor]) -> torch.Tensor:
    assert chain.projection is not None
    projection = chain.projection.clone().requires_grad_(True)
    total = torch.zeros((), dtype=torch.float64)
    for index, (own, norm) in enumerate(zip(moments, norms, strict=True)):
        weight = chain.inner_weight(index, INPUTS * TAPS) @ torch.kron(projection, torch.eye(TAPS, dtype=torch.float64))
        total = total + own.share * torch.trace(norm @ weight @ (weight @ own.covariance - 2 * own.cross).T)
    return torch.autograd.grad(total, projection)[0]


@pytest.mark.parametrize("rows", [3, 40])
def test_moments_kept_as_a_root_do_the_same(rows: int) -> None:
    torch.manual_seed(0)
    chain, moments, _ = _problem({"regions": 1, "blocks": 2, "projection": 0, "encoders": True, "seed": 0})
    root = torch.randn(rows, INPUTS * TAPS, dtype=torch.float64)
    own = moments[0]
    whole = PairMoments(1.0, own.input_mean, own.target_mean, root.T @ root, None, own.cross @ root.T @ root)
    rooted = PairMoments(1.0, own.input_mean, own.target_mean, None, root, own.cross @ root.T @ root)

    made, other = fit_decoders(chain, [whole]), fit_decoders(chain, [rooted])

    torch.testing.assert_close(made.weight(0, INPUTS * TAPS), other.weight(0, INPUTS * TAPS), rtol=1e-3, atol=1e-4)


def test_projections_of_rows_and_columns_are_kronecker_products() -> None:
    torch.manual_seed(0)
    projection, left, right = torch.randn(3, 5), torch.randn(4, 6), torch.randn(10, 7)
    spread = torch.kron(projection, torch.eye(2))
    torch.testing.assert_close(project_rows(projection, right), spread @ right)
    torch.testing.assert_close(project_columns(projection, left), left @ spread)
