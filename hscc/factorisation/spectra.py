"""What each rank of each spatio-channel cluster saves, and the encoder that saves it.

For a cluster with weight W_c, patch covariance A_c and sensitivity G, the best rank-k approximation in the norm of
the decision, E ||G^1/2 (W_c - W'_c) x_c||^2, follows from the eigenvectors of G^1/2 W_c A_c W_c^T G^1/2: the
encoder is E_k^T G^1/2 W_c, and the eigenvalues are the loss each rank saves (principal components of the weighted
output; for G = I the activation-aware SVD of Zhang et al., 2016; for G = A = I the plain one).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch

from hscc.calibration.moments import RegionMoments
from hscc.factorisation.eigen import eigh, eigvalsh

Weighting = Literal["output", "activation", "none"]

_NARROW = 0.75  # a cluster with fewer features than this share of the outputs is solved on its own side
_FAINT = 1e-7
_RIDGE = 1e-3  # of the mean eigenvalue of G: errors in directions without any gradient must not be free


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of one cluster, largest first, in squared logits summed over the region's positions.

    Attributes
    ----------
    values : Tensor of float64, shape (K,)
        Loss saved by each rank.
    directions : Tensor, shape (C_out, K)
        Output directions P; the encoder is P^T W_c, which takes more memory.
    """

    values: torch.Tensor
    directions: torch.Tensor

    def encoder(self, part: torch.Tensor, rank: int) -> torch.Tensor:
        """First rows of the encoder, shape (rank, d_c), given the cluster's weight W_c (C_out, d_c)."""
        return self.directions[:, :rank].T @ part


@dataclass(frozen=True)
class LossWeighting:
    """What makes an output count when ranks are chosen and losses are measured.

    Attributes
    ----------
    by : str
        "output", "activation" or "none"; see `Norm`.
    shrinkage : float
        Of a region's sensitivity towards its layer's, 0 to 1.
    """

    by: Weighting = "output"
    shrinkage: float = 0.3


@dataclass(frozen=True)
class Norm:
    """Norms of a region's outputs: one for the predicted loss, one for the choice of ranks.

    Attributes
    ----------
    sensitivity : Tensor, shape (C_out, C_out)
        Positive definite G of the predicted loss.
    weighting : str
        "output": ranks are chosen by G; "activation": all outputs count alike; "none": weights alone.
    """

    sensitivity: torch.Tensor
    weighting: Weighting

    @cached_property
    def half(self) -> torch.Tensor | None:
        """Cholesky factor L of G = L L^T where ranks are chosen by it, shape (C_out, C_out); thin spectra need none."""
        return torch.linalg.cholesky(self.sensitivity) if self.weighting == "output" else None


def is_narrow(features: int, outputs: int) -> bool:
    """Whether the spectrum of a weight (outputs, features) is solved on the side of its features."""
    return features < _NARROW * outputs


def region_norm(region: RegionMoments, layer: torch.Tensor, weighting: Weighting, shrinkage: float) -> Norm:
    """Norm of a region: its own sensitivity, shrunk towards its layer's (`shrink_sensitivity`)."""
    return Norm(shrink_sensitivity(region.sensitivity, layer, shrinkage), weighting)


def shrink_sensitivity(region: torch.Tensor, layer: torch.Tensor, shrinkage: float) -> torch.Tensor:
    """Mix a region's G with its layer's (small regions are noisy) and lift its null space.

    Parameters
    ----------
    region, layer : Tensor, shape (C_out, C_out)
        Mean second moments of gradients per position.
    shrinkage : float
        Weight of the layer's, 0 to 1.
    """
    mixed = region.clone() if region is layer else torch.lerp(region, layer, shrinkage)
    ridge = _RIDGE * float(mixed.diagonal().mean())
    mixed.diagonal().add_(max(ridge, 1e-30))
    return mixed


def columns_of(channels: Sequence[int], taps: int) -> torch.Tensor:
    """Positions of a cluster's features in the flattened patch, ascending."""
    first = torch.tensor(channels, dtype=torch.int64)[:, None] * taps
    return (first + torch.arange(taps)).reshape(-1)


@dataclass(frozen=True)
class _Eigenproblem:
    """The symmetric matrix of one cluster, and how its eigenvectors become output directions."""

    gram: torch.Tensor
    positions: float
    most: int  # ranks that the shapes allow
    directions: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    faint: float = 0.0  # share of the largest eigenvalue up to which the others are rounding errors


def rank_losses(
    weight: torch.Tensor,
    moments: RegionMoments,
    norm: Norm,
    columns: torch.Tensor,
    outputs: torch.Tensor | None = None,
    weighted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the eigenvalues of `spectrum` alone, in half the time and without rounding errors; float64, shape (K,).

    Parameters
    ----------
    weight, moments, norm, columns, outputs, weighted
        As in `spectrum`.
    """
    problem = _eigenproblem(weight, moments, norm, columns, outputs, weighted)
    values = _descending(eigvalsh(problem.gram), problem)
    if problem.faint:
        values = values[: max(1, int((values > problem.faint * values[0]).sum()))]
    return values.double() * problem.positions


def spectrum(
    weight: torch.Tensor,
    moments: RegionMoments,
    norm: Norm,
    columns: torch.Tensor,
    outputs: torch.Tensor | None = None,
    weighted: torch.Tensor | None = None,
) -> Spectrum:
    """Eigenvalues and encoder of one cluster.

    Parameters
    ----------
    weight : Tensor, shape (C_out, d)
        Of the whole layer.
    moments : RegionMoments
        Of the region.
    norm : Norm
        Of the region's outputs.
    columns : Tensor of int64
        The cluster's features.
    outputs : Tensor, optional
        Covariance W_c A_c W_c^T (C_out, C_out), or R_c W_c^T (rows, C_out) of a single-position layer, where it is
        known already.
    weighted : Tensor, optional
        ``outputs @ G`` of a single-position layer, or G W_c (C_out, d_c) of a narrow cluster, where it is known.
    """
    problem = _eigenproblem(weight, moments, norm, columns, outputs, weighted)
    found, vectors = eigh(problem.gram)
    values = _descending(found, problem)
    directions = problem.directions(values, vectors.flip(1)[:, : len(values)])
    return Spectrum(values.double() * problem.positions, directions.contiguous())


def _descending(values: torch.Tensor, problem: _Eigenproblem) -> torch.Tensor:
    return values.flip(0).clamp_min(0)[: problem.most]


def _eigenproblem(
    weight: torch.Tensor,
    moments: RegionMoments,
    norm: Norm,
    columns: torch.Tensor,
    outputs: torch.Tensor | None,
    weighted: torch.Tensor | None,
) -> _Eigenproblem:
    whole = len(columns) == weight.shape[1]
    part = weight if whole else weight[:, columns]
    if norm.weighting == "none":
        return _of_outputs(part @ part.T, None, moments.positions, part.shape[1])
    if moments.root is not None:
        if outputs is None:
            outputs = (moments.root if whole else moments.root[:, columns]) @ part.T
        return _of_few_rows(outputs, weighted, norm, moments.positions, part.shape[1])
    if outputs is None:
        assert moments.covariance is not None
        covariance = moments.covariance if whole else moments.covariance[columns][:, columns]
        if is_narrow(part.shape[1], len(part)):
            return _of_few_features(part, covariance, norm, moments.positions, weighted)
        outputs = part @ covariance @ part.T
    return _of_outputs(outputs, norm.half, moments.positions, part.shape[1])


def _of_outputs(
    outputs: torch.Tensor, half: torch.Tensor | None, positions: float, features: int
) -> _Eigenproblem:  # fmt: skip
    weighted = outputs if half is None else half.T @ outputs @ half

    def directions(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return vectors if half is None else half @ vectors

    return _Eigenproblem((weighted + weighted.T) / 2, positions, min(len(weighted), features), directions)


def _of_few_features(
    part: torch.Tensor, covariance: torch.Tensor, norm: Norm, positions: float, weighted: torch.Tensor | None
) -> _Eigenproblem:
    # With A = R R^T and B = G^1/2 W R the eigenvalues of B B^T are those of B^T B = R^T W^T G W R, which is as small as
    # the cluster; its eigenvectors Q give the directions G^1/2 (B Q D^-1/2) = G W R Q D^-1/2.
    root, failed = torch.linalg.cholesky_ex(covariance)
    if int(failed):  # fewer samples than features, or channels that are always silent
        root = matrix_root(covariance)
    if norm.weighting != "output":
        weighted = part
    elif weighted is None:
        weighted = norm.sensitivity @ part
    gram = root.T @ (part.T @ weighted) @ root

    def directions(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = weighted @ (root @ vectors)
        return made * values.clamp_min(1e-12 * max(float(values[0]), 1e-30)).rsqrt()

    return _Eigenproblem((gram + gram.T) / 2, positions, len(gram), directions)


def _of_few_rows(
    outputs: torch.Tensor, weighted: torch.Tensor | None, norm: Norm, positions: float, features: int
) -> _Eigenproblem:  # fmt: skip
    # Y = R W^T holds every calibration output; Y G Y^T is as small as the number of images, and its eigenvectors P
    # give the directions G Y^T P D^-1/2 without a square root of G, which is 4096 x 4096 in a classifier.
    product = outputs @ norm.sensitivity if weighted is None else weighted
    if norm.weighting != "output":
        product = outputs
    gram = product @ outputs.T

    def directions(values: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        return (product.T @ vectors) * values.clamp_min(max(_FAINT * float(values[0]), 1e-30)).rsqrt()

    return _Eigenproblem(
        (gram + gram.T) / 2, positions, min(len(gram), outputs.shape[1], features), directions, _FAINT
    )  # fmt: skip


def matrix_root(matrix: torch.Tensor) -> torch.Tensor:
    """Square root of a symmetric positive semidefinite matrix; of one that rounding made negative, zero."""
    values, vectors = eigh(matrix)
    floor = max(float(values[-1]), 0.0) * 1e-12  # channels that are always silent have a covariance of about zero
    root: torch.Tensor = (vectors * values.clamp_min(floor).sqrt()) @ vectors.T
    return root
