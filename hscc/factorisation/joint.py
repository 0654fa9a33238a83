"""All factors of a layer together: projections, cores and decoder, by variable projection.

A layer y = W x is approximated by a sum of terms, y' = U [core_1 (P_1 (x) I); ...; core_g (P_g (x) I)] x: a term
projects the channels at each tap to a few directions P_j and mixes them over the taps by a core. One term is Tucker-2;
several are a block-term decomposition (De Lathauwer, 2008) with equal, and so cheap, groups. With V the stacked rows, A
the covariance of the patches and H = G^1/2, the decoder U = W A V^T (V A V^T)^-1 is the best one for every output norm,
and

    loss(V) = tr(H W A W^T H) - tr((V A V^T)^-1 Q Q^T)   with   Q = V A W^T H.

The gradient of what is saved, 2 (S^-1 Q B - S^-1 Q Q^T S^-1 V A) with B = H W A and S = V A V^T, needs no derivative of
U (Golub and Pereyra, 1973). L-BFGS follows it in the directions, in channels of unit variance, and in the cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hscc.factorisation.chain import project_rows
from hscc.factorisation.eigen import eigh
from hscc.factorisation.projection import channel_directions, lifted_factor
from hscc.factorisation.spectra import matrix_root

Vector = npt.NDArray[np.float64]

ROUNDS = 150  # of L-BFGS for several terms, where 40 lose half of the gain
_FEWER = 3  # times fewer for one term, which is near its optimum at the start
_MEMORY = 20  # steps that L-BFGS remembers
_EXACT = 1e-4  # of the energy: what single precision leaves
_EMPTY = 1e-30  # square of a row's length, relative to the longest, below which the row says nothing
_SILENT = 1e-6  # variance of a channel direction, relative to the largest, below which it is not scaled further


@dataclass(frozen=True)
class Term:
    """One projection with its core.

    Attributes
    ----------
    directions : Tensor, shape (r, C_in)
        Projection of the channels.
    core : Tensor, shape (s, r taps)
        Rows over the projected patch.
    """

    directions: torch.Tensor
    core: torch.Tensor

    def rows(self) -> torch.Tensor:
        """Return core (directions (x) I), shape (s, C_in taps)."""
        size, width = len(self.core), len(self.directions)
        core = self.core.reshape(size, width, -1)
        return torch.einsum("srt,rc->sct", core, self.directions).reshape(size, -1)


class JointFit:
    """A layer whose terms are fitted together.

    Parameters
    ----------
    weight : Tensor, shape (C_out, C_in taps)
        Dense weight.
    covariance : Tensor, shape (C_in taps, C_in taps)
        Of the layer's patches.
    sensitivity : Tensor, shape (C_out, C_out)
        Positive definite G of the loss.
    taps : int
        Kernel positions.
    """

    def __init__(
        self, weight: torch.Tensor, covariance: torch.Tensor, sensitivity: torch.Tensor, taps: int
    ) -> None:  # fmt: skip
        self.weight, self.covariance, self.sensitivity, self.taps = weight, covariance, sensitivity, taps
        self.channels = weight.shape[1] // taps
        self.half = matrix_root(sensitivity)
        self._target = self.half @ (weight @ covariance)
        self.energy = float((self._target * (self.half @ weight)).sum(dtype=torch.float64))
        by_tap = covariance.reshape(self.channels, taps, self.channels, taps).diagonal(dim1=1, dim2=3)
        self.roots = channel_roots(by_tap.mean(-1))

    def loss(self, terms: Sequence[Term]) -> float:
        """Loss of one output position with the best decoder."""
        rows = _stacked(terms)
        cross = (rows @ self._target.T).double()
        return self.energy - float((inverse_of(rows @ self.covariance @ rows.T) @ cross * cross).sum())

    def decoder(self, terms: Sequence[Term]) -> torch.Tensor:
        """Best decoder of the terms, shape (C_out, sum of s)."""
        rows = _stacked(terms)
        codes = rows @ self.covariance
        inverse = inverse_of(codes @ rows.T)
        decoder: torch.Tensor = ((codes @ self.weight.T).double().T @ inverse).to(rows.dtype)
        return decoder

    def next_term(self, terms: Sequence[Term], directions: int, rank: int) -> Term:
        """Best further term for what some terms leave out, taken alone.

        Parameters
        ----------
        terms : sequence of Term
            Those so far; may be empty.
        directions, rank : int
            Size of the new one.
        """
        rest = self.weight
        if terms:
            rest = rest - self.decoder(terms) @ _stacked(terms)
        matrix = channel_directions(rest, self.covariance, self.sensitivity, self.taps)[:directions].contiguous()
        half = project_rows(matrix, self.covariance)
        inner = project_rows(matrix, half.T.contiguous())
        best = ((rest @ half.T).double() @ inverse_of(inner)).to(rest.dtype)
        weighted = self.half @ best
        spread = weighted @ inner @ weighted.T
        _, vectors = eigh((spread + spread.T) / 2)
        return Term(matrix, vectors.flip(1)[:, :rank].T @ weighted)

    def refined(self, terms: Sequence[Term], rounds: int = ROUNDS) -> list[Term]:
        """Improve all terms together; never worse than they were.

        Parameters
        ----------
        terms : sequence of Term
            Where to start.
        rounds : int
            Most iterations of L-BFGS; a third of them for a single term.
        """
        from scipy.optimize import minimize  # here: it takes a moment to import

        start = self.loss(terms)
        if start <= _EXACT * self.energy:
            return list(terms)
        packing = _Packing(terms, self)

        def value(point: Vector) -> tuple[float, Vector]:
            found = packing.terms(point)
            saved, gradient = self._saved(_stacked(found))
            return -saved / scale, packing.gradient(found, gradient) / -scale

        scale = max(self.energy, 1e-30)
        rounds = rounds if len(terms) > 1 else -(-rounds // _FEWER)
        options = {"maxiter": rounds, "maxcor": _MEMORY}
        try:
            end = minimize(value, packing.point(terms), jac=True, method="L-BFGS-B", options=options)
            better = packing.terms(end.x)
            return better if self.loss(better) < start else list(terms)
        except np.linalg.LinAlgError:  # few images: the rows ran to where only rounding saves anything
            return list(terms)

    def _saved(self, rows: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Return what rows save, and its gradient by them."""
        codes = rows @ self.covariance
        cross = (rows @ self._target.T).double()
        solved = inverse_of(codes @ rows.T) @ cross
        kept = (solved @ solved.T).to(rows.dtype)
        return float((solved * cross).sum()), 2 * (solved.to(rows.dtype) @ self._target - kept @ codes)


class _Packing:
    """Terms as one vector: directions of channels of unit variance, all rows of unit length at the start.

    Cores in coordinates of uncorrelated patches were tried too, and converged more slowly.
    """

    def __init__(self, terms: Sequence[Term], fit: JointFit) -> None:
        self.root, self.inverse = fit.roots
        self.shapes = [(term.directions.shape, term.core.shape) for term in terms]
        self.dtype = terms[0].core.dtype

    def point(self, terms: Sequence[Term]) -> Vector:
        """Return the vector of terms."""
        parts = []
        for term in terms:
            white = term.directions @ self.root
            length = white.norm(dim=1, keepdim=True).clamp_min(1e-30)
            core = term.core * length.repeat_interleave(term.core.shape[1] // len(length), dim=0).T
            core = core / core.norm(dim=1, keepdim=True).clamp_min(1e-30)
            parts += [(white / length).flatten(), core.flatten()]
        return _as_vector(parts)

    def terms(self, point: Vector) -> list[Term]:
        """Return the terms that a vector stands for."""
        values = torch.from_numpy(point).to(self.dtype)
        parts = iter(values.split([shape.numel() for pair in self.shapes for shape in pair]))
        return [
            Term(next(parts).reshape(first) @ self.inverse, next(parts).reshape(second))
            for first, second in self.shapes
        ]

    def gradient(self, terms: Sequence[Term], rows: torch.Tensor) -> Vector:
        """Gradient by the vector, given the one by the stacked rows."""
        parts = []
        for term, part in zip(terms, rows.split([len(term.core) for term in terms]), strict=True):
            size, width = len(term.core), len(term.directions)
            part = part.reshape(size, term.directions.shape[1], -1)
            core = term.core.reshape(size, width, -1)
            parts += [
                (torch.einsum("srt,sct->rc", core, part) @ self.inverse).flatten(),
                torch.einsum("sct,rc->srt", part, term.directions).flatten(),
            ]
        return _as_vector(parts)


def _stacked(terms: Sequence[Term]) -> torch.Tensor:
    return torch.cat([term.rows() for term in terms])


def _as_vector(parts: Sequence[torch.Tensor]) -> Vector:
    return torch.cat(list(parts)).double().numpy()


def inverse_of(gram: torch.Tensor) -> torch.Tensor:
    """Inverse in double precision of a Gram matrix that rounding may have made singular; rows of length 0 give 0."""
    double = gram.double()
    lengths = double.diagonal()
    unit = torch.where(lengths > _EMPTY * lengths.max(), lengths.rsqrt(), 0.0)
    scaled = double * torch.outer(unit, unit)
    ridge = 10 * torch.finfo(gram.dtype).eps * max(float(scaled.diagonal().mean()), 1e-30)
    factor = lifted_factor(scaled, ridge)
    inverse: torch.Tensor = torch.cholesky_inverse(factor) * torch.outer(unit, unit)
    return inverse


def channel_roots(activity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Square root of the channels' covariance and its inverse."""
    values, vectors = eigh((activity + activity.T) / 2)
    values = values.clamp_min(max(float(values[-1]), 1e-30) * _SILENT).sqrt()
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T
