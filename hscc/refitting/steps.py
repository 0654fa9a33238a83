"""Least squares in one factor of a layer at a time, from moments; every step lowers `loss`, or leaves it.

The loss of a layer with regions r, each with its share n_r of the positions, is

    sum_r n_r tr G_r (M_r A_r M_r^T - 2 M_r C_r^T),  M_r = U_r V_r (P x I),

with the moments A and C of `hscc.refitting.moments.PairMoments` and the output sensitivity G_r. It is quadratic in each
factor: decoders U are a ridge regression, encoders V have a Kronecker product as Hessian, and for the projection P,
which all regions share, conjugate gradients solve it (alternating least squares).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from hscc.factorisation.chain import Chain
from hscc.factorisation.factors import Encoder, RegionFactors, balance
from hscc.refitting.moments import PairMoments, damped_factor

_JITTER = 1e-6  # of a unit diagonal, for codes that depend on each other
_DAMPING = 1e-2  # of a step of encoders or projection, in units of the mean variance of its inputs
_STEPS = 20  # of conjugate gradients
_CLOSE = 1e-2  # of the first residual's norm, where they stop; 1e-3 ends at the same divergence, later


def loss(chain: Chain, moments: Sequence[PairMoments], sensitivity: Sequence[torch.Tensor]) -> float:
    """Return the loss of a layer; only its differences have a meaning.

    Parameters
    ----------
    chain : Chain
        Weights; biases are taken as the best ones.
    moments : sequence of PairMoments
        One per region.
    sensitivity : sequence of Tensor, shape (C_out, C_out)
        Positive definite G of each region.
    """
    total = 0.0
    for index, (own, norm) in enumerate(zip(moments, sensitivity, strict=True)):
        weight = chain.weight(index, len(own.input_mean))
        total += own.share * float(((norm @ weight) * (own.times(weight) - 2 * own.cross)).sum(dtype=torch.float64))
    return total


def fit_decoders(chain: Chain, moments: Sequence[PairMoments]) -> Chain:
    """Return the best decoders and biases for the encoders and the projection: in every norm of the outputs."""
    fitted = []
    for factors, columns, own in zip(chain.regions, chain.columns, moments, strict=True):
        fitted.append(_fit_decoder(factors, columns, own.behind(chain.projection)))
    return replace(chain, regions=fitted)


def fit_all(
    chain: Chain, moments: Sequence[PairMoments], sensitivity: Sequence[torch.Tensor], sweeps: int
) -> Chain:  # fmt: skip
    """Fit projection, encoders and decoders in turn.

    Parameters
    ----------
    chain, moments, sensitivity
        As in `loss`.
    sweeps : int
        How often each factor is fitted.
    """
    for _ in range(sweeps):
        if chain.projection is not None:
            chain = fit_projection(chain, moments, sensitivity)
        inner = [own.behind(chain.projection) for own in moments]
        fitted = []
        for factors, columns, own, norm in zip(chain.regions, chain.columns, inner, sensitivity, strict=True):
            # A wide layer with one position has fewer images than inputs: encoders would read what only these show.
            encoded = fit_encoders(factors, columns, own, norm) if columns and own.root is None else factors
            fitted.append(_fit_decoder(encoded, columns, own))
        chain = replace(chain, regions=fitted)
    return replace(chain, regions=[_balanced(factors) for factors in chain.regions])


def fit_encoders(
    factors: RegionFactors, columns: Sequence[torch.Tensor], moments: PairMoments, sensitivity: torch.Tensor
) -> RegionFactors:
    """Return the best encoder of each block in turn, given the decoder and the other blocks.

    With N = U_b^T G U_b the correction D solves N D A_bb = U_b^T G (C - M A)_b.

    Parameters
    ----------
    factors : RegionFactors
        Of one region.
    columns : sequence of Tensor of int64
        Features of each block.
    moments : PairMoments
        Of what the encoders read.
    sensitivity : Tensor, shape (C_out, C_out)
        G of the region.
    """
    encoders = list(factors.encoders)
    decoders = factors.decoder.split([len(rows) for rows in encoders], dim=1)
    # U_b^T G (C - M A), of all blocks at once: what a block changes is the others' too.
    weighted = sensitivity @ factors.decoder
    wanted = weighted.T @ moments.cross
    for rows, part, index in zip(encoders, decoders, columns, strict=True):
        if len(rows):
            wanted -= (weighted.T @ part) @ moments.times(rows, index)
    place = 0
    for block, (rows, part, index) in enumerate(zip(encoders, decoders, columns, strict=True)):
        if not len(rows):
            continue
        own = slice(place, place + len(rows))
        place += len(rows)
        change = _solve(part.T @ weighted[:, own], _solve_inputs(moments, index, wanted[own][:, index]))
        encoders[block] = rows + change
        wanted -= (weighted.T @ part) @ moments.times(change, index)
    return replace(factors, encoders=encoders)


def fit_projection(chain: Chain, moments: Sequence[PairMoments], sensitivity: Sequence[torch.Tensor]) -> Chain:
    """Return a better projection, given all else: a few steps of preconditioned conjugate gradients.

    The step is damped: it minimises the loss plus a multiple of what the change would add to it if all channels were
    active alike. Channels that are never active would else take any weight, and a large one spoils the rounding of its
    whole row to eight bits.

    Parameters
    ----------
    chain, moments, sensitivity
        As in `loss`; the chain has a projection.
    """
    projection = chain.projection
    assert projection is not None
    directions, inputs = projection.shape
    taps = len(moments[0].input_mean) // inputs
    hessians, gradient = [], torch.zeros_like(projection)
    outer, inner = projection.new_zeros(directions, directions), projection.new_zeros(inputs, inputs)
    for index, (own, norm) in enumerate(zip(moments, sensitivity, strict=True)):
        core = chain.inner_weight(index, len(own.input_mean))
        weighted = own.share * (norm @ core)
        hessian = core.T @ weighted
        hessians.append(hessian)
        gradient += _traced_product(weighted.T, own.cross, taps)
        outer = outer + _traced(hessian, directions, directions, taps)
        inner = inner + own.share * _input_gram(own, inputs, taps)
    damping = _step_damping(inner)

    def curvature(change: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(change)
        for own, hessian in zip(moments, hessians, strict=True):
            total += _traced_product(hessian, own.times_projection(change), taps)
        return total

    left, right = _inverse(outer), _inverse(inner + damping * torch.eye(inputs, dtype=inner.dtype, device=inner.device))

    def precondition(residual: torch.Tensor) -> torch.Tensor:
        return (left @ residual.double() @ right).to(residual.dtype)

    def damped(change: torch.Tensor) -> torch.Tensor:
        return curvature(change) + damping * (outer @ change)

    change = _conjugate_gradients(damped, gradient - curvature(projection), precondition)
    return replace(chain, projection=projection + change)


def _conjugate_gradients(
    curvature: Callable[[torch.Tensor], torch.Tensor],
    residual: torch.Tensor,
    precondition: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    solution, first = torch.zeros_like(residual), float(residual.norm())
    direction = preconditioned = precondition(residual)
    power = float((residual * preconditioned).sum(dtype=torch.float64))
    for _ in range(_STEPS):
        bent = curvature(direction)
        curve = float((direction * bent).sum(dtype=torch.float64))
        if power <= 0 or curve <= 0 or float(residual.norm()) <= _CLOSE * first:
            break
        solution = solution + (power / curve) * direction
        residual = residual - (power / curve) * bent
        preconditioned = precondition(residual)
        before, power = power, float((residual * preconditioned).sum(dtype=torch.float64))
        direction = preconditioned + (power / before) * direction
    return solution


def _fit_decoder(factors: RegionFactors, columns: Sequence[torch.Tensor], moments: PairMoments) -> RegionFactors:
    decoder = factors.decoder
    if not decoder.shape[1]:
        return replace(factors, bias=moments.target_mean)
    if columns:
        shared = torch.cat([moments.times(rows, index) for rows, index in zip(factors.encoders, columns, strict=True)])
        encode = Encoder(columns, factors.encoders).after
        gram, cross, mean = encode(shared.T), encode(moments.cross.T), encode(moments.input_mean[:, None])[:, 0]
    else:
        assert moments.covariance is not None
        gram, cross, mean = moments.covariance, moments.cross.T, moments.input_mean
    decoder = decoder + _solve(gram, cross - gram @ decoder.T).T
    return replace(factors, decoder=decoder, bias=moments.target_mean - decoder @ mean)


def _balanced(factors: RegionFactors) -> RegionFactors:
    if not factors.encoders or not factors.decoder.shape[1]:
        return factors
    rows, decoder = balance(factors.encoders, factors.decoder)
    return replace(factors, encoders=rows, decoder=decoder)


def _traced(matrix: torch.Tensor, directions: int, inputs: int, taps: int) -> torch.Tensor:
    """Sum a matrix (p s, q s) over equal taps, shape (p, q): the adjoint of P -> P x I."""
    return torch.einsum("ptqt->pq", matrix.reshape(directions, taps, inputs, taps))


def _traced_product(left: torch.Tensor, right: torch.Tensor, taps: int) -> torch.Tensor:
    """`_traced` of left @ right, shapes (p s, n) and (n, q s), without the entries between different taps."""
    behind = right.reshape(len(right), -1, taps).permute(2, 0, 1).reshape(taps * len(right), -1)
    return left.reshape(-1, taps * len(right)) @ behind


def _input_gram(moments: PairMoments, inputs: int, taps: int) -> torch.Tensor:
    if moments.covariance is not None:
        return _traced(moments.covariance, inputs, inputs, taps) / taps
    assert moments.root is not None
    rows = moments.root.reshape(-1, inputs, taps).transpose(1, 2).reshape(-1, inputs)
    return rows.T @ rows / taps


def _solve_inputs(moments: PairMoments, columns: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return right @ (A_bb + a I)^-1 for the features of one block: a damped step."""
    assert moments.covariance is not None
    whole = len(columns) == len(moments.covariance)
    own = moments.covariance if whole else moments.covariance[columns][:, columns]
    factor, _ = damped_factor(own, _step_damping(own))
    return torch.cholesky_solve(right.double().T, factor).T.to(right.dtype)


def _step_damping(covariance: torch.Tensor) -> float:
    return max(_DAMPING * float(covariance.diagonal().mean()), 1e-12)


def _inverse(matrix: torch.Tensor) -> torch.Tensor:
    """Inverse of a positive semidefinite matrix in float64, damped in units that make its diagonal one.

    By eigenvalues: codes may depend on each other, and then rounding makes some eigenvalues negative.
    """
    diagonal = matrix.diagonal().double()
    unit = diagonal.clamp_min(max(1e-12 * float(diagonal.max()), 1e-60)).rsqrt()
    scaled = matrix.double() * torch.outer(unit, unit)
    values, vectors = torch.linalg.eigh((scaled + scaled.T) / 2)
    damped = vectors * (1 / (values.clamp_min(0.0) + _JITTER))
    made: torch.Tensor = unit[:, None] * (damped @ vectors.T) * unit
    return made


def _solve(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return (_inverse(matrix) @ right.double()).to(right.dtype)
