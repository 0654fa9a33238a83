"""Channels projected to a few directions of their co-activation, which makes every tap of a layer cheaper.

A k x k kernel reads every input channel k^2 times. Co-active channels hold the same information, so the
input is first reduced to r directions P of the C channels by a 1 x 1 convolution, and the factors work on those. With R
the channels' covariance and H = sum over taps of W_t^T G W_t, the directions that lose least of the weighted output are
P = E^T R^1/2 H for the leading eigenvectors E of R^1/2 H R^1/2. What the dropped directions share with the kept ones is
regained by regressing the layer's outputs on the projected inputs: W' = W A K^T (K A K^T)^-1 with K = P (x) I_taps.
This is Tucker-2's input mode (Kim et al., 2015) in the norm of the decision instead of that of the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from hscc.calibration.moments import LayerMoments, RegionMoments
from hscc.factorisation.chain import project_rows
from hscc.factorisation.eigen import eigh
from hscc.factorisation.spectra import matrix_root
from hscc.structures.base import SIMD_WIDTH

SHARES = (1 / 8, 1 / 4, 1 / 3, 1 / 2)  # of the input channels
REGIONAL_SHARES = (1 / 4,)  # with several regions each costs an eigenproblem per region: the one that fitted best
_WIDE = 64  # channels from which on directions come in multiples of the SIMD width


@dataclass(frozen=True)
class ProjectedMoments:
    """Sums over the calibration images after a projection, one row per cell.

    Attributes
    ----------
    matrix : Tensor, shape (r, C)
        Directions, the most important first: the first rows are the smaller projections.
    count : Tensor of int64, shape (cells,)
        Samples.
    total : Tensor, shape (cells, r taps)
        Sum of the projected patches.
    second : Tensor, shape (cells, r taps, r taps)
        Sum of their outer products.
    cross : Tensor, shape (cells, C_out, r taps)
        Sum of W x times the projected patch.
    """

    matrix: torch.Tensor
    count: torch.Tensor
    total: torch.Tensor
    second: torch.Tensor
    cross: torch.Tensor


@dataclass(frozen=True)
class ProjectedRegion:
    """A region of a layer after a projection.

    Attributes
    ----------
    weight : Tensor, shape (C_out, r taps)
        Best prediction of the layer's outputs from the projected patches.
    offset : Tensor, shape (C_out,)
        What the bias must add so that the mean output stays.
    moments : RegionMoments
        Of the projected patches.
    outputs : Tensor, shape (C_out, C_out)
        Covariance of the predicted outputs.
    residual : Tensor, shape (C_out, C_out)
        Covariance of what the prediction misses.
    """

    weight: torch.Tensor
    offset: torch.Tensor
    moments: RegionMoments
    outputs: torch.Tensor
    residual: torch.Tensor


def projection_ranks(channels: int, shares: Sequence[float] = SHARES) -> tuple[int, ...]:
    """Numbers of directions to try, ascending.

    Parameters
    ----------
    channels : int
        Of the input.
    shares : sequence of float
        Of the channels, 0 to 1; the numbers are rounded to multiples of the SIMD width for wide inputs.
    """
    multiple = SIMD_WIDTH if channels >= _WIDE else 1
    sizes = {max(1, round(channels * share / multiple)) * multiple for share in shares}
    return tuple(sorted(size for size in sizes if size < channels))


def channel_directions(
    weight: torch.Tensor, covariance: torch.Tensor, sensitivity: torch.Tensor, taps: int
) -> torch.Tensor:
    """Directions of the input channels, shape (C, C), rows of unit length, the most important first.

    Parameters
    ----------
    weight : Tensor, shape (C_out, C taps)
        Dense weight.
    covariance : Tensor, shape (C taps, C taps)
        Of the layer's patches.
    sensitivity : Tensor, shape (C_out, C_out)
        What makes an output count.
    taps : int
        Kernel positions.
    """
    channels = weight.shape[1] // taps
    activity = covariance.reshape(channels, taps, channels, taps).diagonal(dim1=1, dim2=3).mean(-1)
    parts = weight.reshape(len(weight), channels, taps).permute(2, 0, 1)
    importance = (parts.transpose(1, 2) @ (sensitivity @ parts)).sum(0)
    root = matrix_root(activity)
    weighted = root @ importance @ root
    _, vectors = eigh((weighted + weighted.T) / 2)
    rows = vectors.flip(1).T @ root @ importance
    unit: torch.Tensor = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return unit


def project_moments(moments: LayerMoments, outputs: torch.Tensor, matrix: torch.Tensor) -> ProjectedMoments:
    """Sums of a layer after a projection.

    Parameters
    ----------
    moments : LayerMoments
        Of the layer.
    outputs : Tensor, shape (cells, C_out, C taps)
        Sums of W x times the patch, W ``second``.
    matrix : Tensor, shape (r, C)
        Directions.
    """
    assert moments.second is not None
    seconds, crosses = [], []
    for second, cross in zip(moments.second, outputs, strict=True):
        half = project_rows(matrix, second)
        seconds.append(project_rows(matrix, half.T.contiguous()))
        crosses.append(project_rows(matrix, cross.T.contiguous()).T)
    total = project_rows(matrix, moments.total.T.contiguous()).T
    return ProjectedMoments(matrix, moments.count, total, torch.stack(seconds), torch.stack(crosses))


def project_region(
    projected: ProjectedMoments,
    rank: int,
    cells: Sequence[int],
    dense: RegionMoments,
    weight: torch.Tensor,
    outputs: torch.Tensor,
) -> ProjectedRegion:
    """Regress a region's outputs on the first directions of a projection.

    Parameters
    ----------
    projected : ProjectedMoments
        Of the layer.
    rank : int
        Directions to keep.
    cells : sequence of int
        The region's, in the calibration's fine grid.
    dense : RegionMoments
        Of the region.
    weight : Tensor, shape (C_out, C taps)
        Dense weight.
    outputs : Tensor, shape (C_out, C_out)
        Covariance of the dense outputs over the region.
    """
    width = rank * (weight.shape[1] // projected.matrix.shape[1])
    index = torch.as_tensor(list(cells))
    count = max(int(projected.count[index].sum()), 1)
    mean = projected.total[index, :width].sum(0) / count
    covariance = (projected.second[index, :width, :width].sum(0) / count).addr_(mean, mean, alpha=-1.0)
    mean_output = weight @ dense.mean
    cross = (projected.cross[index, :, :width].sum(0) / count).addr_(mean_output, mean, alpha=-1.0)
    best = _regression(cross, covariance)
    shared = best @ cross.T
    predicted = best @ covariance @ best.T
    residual = outputs - shared - shared.T + predicted
    known = replace(dense, mean=mean, covariance=covariance)
    return ProjectedRegion(best, mean_output - best @ mean, known, predicted, residual)


def balance_projection(matrix: torch.Tensor, regions: Sequence[Sequence[torch.Tensor]]) -> torch.Tensor:
    """Factors, shape (r,), that give each direction and what reads it the same norm; see `factors.region_factors`.

    What reads a direction is taken as the mean over the regions, since each output position belongs to one of them:
    their sum would make the projection of 16 regions twice too large.

    Parameters
    ----------
    matrix : Tensor, shape (r, C)
        Directions; to be multiplied by the factors, row by row.
    regions : sequence of sequence of Tensor, shape (rank, r_c taps)
        Encoders of each region, whose blocks read the directions in order; to be divided by the factors.
    """
    taps = sum(row.shape[1] for row in regions[0]) // len(matrix)
    read = torch.stack(
        [torch.cat([row.square().sum(0).reshape(-1, taps).sum(1) for row in encoders]) for encoders in regions]
    )
    after = read.mean(0).sqrt().clamp_min(1e-30)
    scale: torch.Tensor = (after / matrix.norm(dim=1).clamp_min(1e-30)).sqrt()
    return scale


def lifted_factor(matrix: torch.Tensor, ridge: float) -> torch.Tensor:
    """Cholesky factor of a matrix whose diagonal is lifted by a ridge, ten times as much until there is one.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix has no finite ridge that would do, because it holds a NaN or an infinity.
    """
    factor: torch.Tensor
    factor, failed = torch.linalg.cholesky_ex(_lifted(matrix, ridge))
    while int(failed):
        if not torch.isfinite(matrix).all():
            raise np.linalg.LinAlgError("A matrix with a NaN or an infinity has no Cholesky factor.")
        ridge *= 10
        factor, failed = torch.linalg.cholesky_ex(_lifted(matrix, ridge))
    return factor


def _regression(cross: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Least squares: cross covariance^-1, shape (C_out, r taps)."""
    damped = covariance.double()
    ridge = torch.finfo(cross.dtype).eps * float(damped.diagonal().sum().clamp_min(1e-30))
    # Sums in single precision are not quite positive definite where inputs depend on each other.
    factor = lifted_factor(damped, ridge)
    best: torch.Tensor = torch.cholesky_solve(cross.T.double(), factor).T
    return best.to(cross.dtype).contiguous()


def _lifted(matrix: torch.Tensor, ridge: float) -> torch.Tensor:
    return matrix + ridge * torch.eye(len(matrix), dtype=matrix.dtype)
