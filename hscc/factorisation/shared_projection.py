"""A projection that all regions of a layer share, refined for the cores and decoders that the regions have.

Behind a projection P each region's core and decoder are known in closed form: with S and X the covariance of its
projected patches and their cross covariance with the outputs, what rank k saves is the sum of the k largest eigenvalues
of M = G^1/2 X S^-1 X^T G^1/2. For fixed output directions E that sum is at least tr E^T M E, with equality at the
eigenvectors; so P is improved for the present E by L-BFGS, and then E for the new P (minorisation and maximisation). P
is sought in the space of a wider projection, behind which the moments are known already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hscc.factorisation.chain import project_rows
from hscc.factorisation.joint import Vector, channel_roots, inverse_of
from hscc.factorisation.region_context import RegionContext
from hscc.factorisation.spectra import spectrum

_ALTERNATIONS = 2  # between the projection and the output directions; more gained 0.3 %
_SHARE = 15  # times fewer rounds of L-BFGS in each than the joint refinement of all factors has
_MEMORY = 10


@dataclass(frozen=True)
class _Region:
    """What a region asks of the projection.

    Attributes
    ----------
    positions : float
        Of outputs.
    covariance : Tensor, shape (w taps, w taps)
        Of the patches behind the wide projection.
    target : Tensor, shape (k, w taps)
        Cross covariance of the weighted output directions with these patches, E^T G^1/2 X.
    """

    positions: float
    covariance: torch.Tensor
    target: torch.Tensor


def refined_projection(
    regions: Sequence[RegionContext], ranks: Sequence[int], size: int, taps: int, rounds: int
) -> torch.Tensor:
    """Directions for the cores of some regions, as combinations of those of a wider projection.

    Parameters
    ----------
    regions : sequence of RegionContext
        Behind the wider projection, with the square root of their norm.
    ranks : sequence of int
        Of each region.
    size : int
        Directions r to find; the start is the first ones.
    taps : int
        Kernel positions.
    rounds : int
        Of the joint refinement of a layer's factors; a few of them here.

    Returns
    -------
    Tensor, shape (r, w)
        Combinations of the w directions.
    """
    width = regions[0].weight.shape[1] // taps
    mixed = torch.eye(width, dtype=regions[0].weight.dtype)[:size]
    kept = [(region, rank) for region, rank in zip(regions, ranks, strict=True) if rank]
    for _ in range(_ALTERNATIONS if kept and width > size else 0):
        asked = [_asked(region, rank, mixed, taps) for region, rank in kept]
        mixed = _improved(asked, mixed, taps, -(-rounds // _SHARE))
    return mixed


def saved(regions: Sequence[_Region], mixed: torch.Tensor, taps: int) -> tuple[float, torch.Tensor]:
    """What regions save with fixed output directions, and its gradient by the combinations (r, w)."""
    total, gradient = 0.0, torch.zeros_like(mixed)
    size, width = mixed.shape
    for region in regions:
        half = project_rows(mixed, region.covariance)
        gram = project_rows(mixed, half.T.contiguous())
        cross = project_rows(mixed, region.target.T.contiguous()).double()
        solved = inverse_of(gram) @ cross
        total += region.positions * float((solved * cross).sum())
        rows = solved.to(mixed.dtype) @ region.target - (solved @ solved.T).to(mixed.dtype) @ half
        gradient += 2 * region.positions * torch.einsum("rtct->rc", rows.reshape(size, taps, width, taps))
    return total, gradient


def _asked(region: RegionContext, rank: int, mixed: torch.Tensor, taps: int) -> _Region:
    """A region with the output directions that are best behind the present projection."""
    covariance = region.moments.covariance
    assert covariance is not None
    cross = region.weight @ covariance
    half = project_rows(mixed, covariance)
    own = project_rows(mixed, half.T.contiguous())
    projected = project_rows(mixed, cross.T.contiguous()).double()
    outputs = (projected.T @ inverse_of(own) @ projected).to(mixed.dtype)
    columns = torch.arange(region.weight.shape[1])
    found = spectrum(region.weight, region.moments, region.norm, columns, outputs)
    return _Region(region.moments.positions, covariance, found.directions[:, :rank].T @ cross)


def _improved(regions: Sequence[_Region], mixed: torch.Tensor, taps: int, rounds: int) -> torch.Tensor:
    from scipy.optimize import minimize  # here: it takes a moment to import

    width = mixed.shape[1]
    activity = torch.zeros(width, width, dtype=mixed.dtype)
    for region in regions:
        by_tap = region.covariance.reshape(width, taps, width, taps).diagonal(dim1=1, dim2=3)
        activity += region.positions * by_tap.mean(-1)
    root, inverse = channel_roots(activity)
    scale = max(saved(regions, mixed, taps)[0], 1e-30)

    def value(point: Vector) -> tuple[float, Vector]:
        total, gradient = saved(regions, torch.from_numpy(point).to(mixed.dtype).reshape(mixed.shape) @ inverse, taps)
        return -total / scale, (gradient @ inverse).double().flatten().numpy() / -scale

    start = (mixed @ root).double().flatten().numpy()
    options = {"maxiter": rounds, "maxcor": _MEMORY}
    end = minimize(value, start, jac=True, method="L-BFGS-B", options=options)
    found: torch.Tensor = torch.from_numpy(end.x).to(mixed.dtype).reshape(mixed.shape) @ inverse
    return found
