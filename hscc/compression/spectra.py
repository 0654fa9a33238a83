"""What each rank of each spatio-channel cluster saves, and the encoder that saves it.

For a cluster with weight W_c, patch covariance A_c and sensitivity G, the best rank-k approximation in the norm that
the decision feels, E ||G^1/2 (W_c - W'_c) x_c||^2, follows from the eigenvectors of G^1/2 W_c A_c W_c^T G^1/2: the
encoder is E_k^T G^1/2 W_c, and the eigenvalues are the loss each rank saves (principal components of the weighted
output; for G = I the activation-aware SVD of Zhang et al., 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hscc.calibration.layers import Layer
from hscc.calibration.moments import RegionMoments

_RIDGE = 1e-3  # of the mean eigenvalue of G: keeps directions that no gradient was seen in from costing nothing


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of one cluster, largest first, in squared logits summed over the region's positions.

    Attributes
    ----------
    values : Tensor of float64, shape (K,)
        Loss saved by each rank.
    encoder : Tensor, shape (K, d_c)
        Rows in the same order; the first k make the rank-k encoder.
    """

    values: torch.Tensor
    encoder: torch.Tensor


@dataclass(frozen=True)
class Weighting:
    """Norm in which a region's outputs are measured.

    Attributes
    ----------
    sensitivity : Tensor, shape (C_out, C_out)
        Positive definite.
    half : Tensor, shape (C_out, C_out) or None
        Its square root, where the layer has many positions; thin spectra do without.
    """

    sensitivity: torch.Tensor
    half: torch.Tensor | None


def weighting(region: RegionMoments, layer: torch.Tensor, shrinkage: float) -> Weighting:
    """Output norm of a region: its own sensitivity, shrunk towards its layer's (`shrink_sensitivity`)."""
    sensitivity = shrink_sensitivity(region.sensitivity, layer, shrinkage)
    return Weighting(sensitivity, None if region.root is not None else matrix_power(sensitivity, 0.5))


def shrink_sensitivity(region: torch.Tensor, layer: torch.Tensor, shrinkage: float) -> torch.Tensor:
    """Mix a region's G with its layer's (small regions are noisy) and lift its null space.

    Parameters
    ----------
    region, layer : Tensor, shape (C_out, C_out)
        Mean second moments of gradients per position.
    shrinkage : float
        Weight of the layer's, 0 to 1.
    """
    mixed = (1 - shrinkage) * region + shrinkage * layer
    ridge = _RIDGE * float(mixed.diagonal().mean())
    return mixed + max(ridge, 1e-30) * torch.eye(len(mixed), dtype=mixed.dtype)


def columns_of(layer: Layer, channels: tuple[int, ...]) -> torch.Tensor:
    """Positions of a cluster's features in the flattened patch, ascending."""
    first = torch.tensor(channels, dtype=torch.int64)[:, None] * layer.taps
    return (first + torch.arange(layer.taps)).reshape(-1)


def spectrum(
    weight: torch.Tensor, moments: RegionMoments, weighting: Weighting, columns: torch.Tensor | None
) -> Spectrum:
    """Eigenvalues and encoder of one cluster.

    Parameters
    ----------
    weight : Tensor, shape (C_out, d)
        Of the whole layer.
    moments : RegionMoments
        Of the region.
    weighting : Weighting
        Output norm of the region.
    columns : Tensor of int64 or None
        The cluster's features; None for all.
    """
    part = weight if columns is None else weight[:, columns]
    if moments.root is not None:
        root = moments.root if columns is None else moments.root[:, columns]
        return _thin_spectrum(part, root, weighting.sensitivity, moments.positions)
    assert moments.covariance is not None
    covariance = moments.covariance if columns is None else moments.covariance[columns][:, columns]
    assert weighting.half is not None
    seen = weighting.half @ part
    values, vectors = torch.linalg.eigh(_symmetric(seen @ covariance @ seen.T))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    limit = min(len(values), part.shape[1])
    return Spectrum(values[:limit].double() * moments.positions, (vectors.T @ seen)[:limit])


def _thin_spectrum(part: torch.Tensor, root: torch.Tensor, sensitivity: torch.Tensor, positions: float) -> Spectrum:
    # Y = R W^T holds every calibration output; Y G Y^T is as small as the number of images, and its eigenvectors P
    # give the encoder D^-1/2 P^T Y G W without a square root of G, which is 4096 x 4096 in a classifier.
    outputs = root @ part.T
    weighted = outputs @ sensitivity
    values, vectors = torch.linalg.eigh(_symmetric(weighted @ outputs.T))
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    keep = min(int((values > 1e-7 * values[0]).sum()), *part.shape)
    scale = values[:keep].clamp_min(1e-30).rsqrt()
    encoder = (scale[:, None] * (vectors[:, :keep].T @ weighted)) @ part
    return Spectrum(values[:keep].double() * positions, encoder)


def matrix_power(matrix: torch.Tensor, exponent: float) -> torch.Tensor:
    """Power of a symmetric positive definite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    scaled = vectors * values.clamp_min(float(values[-1]) * 1e-12).pow(exponent)
    power: torch.Tensor = scaled @ vectors.T
    return power


def _symmetric(matrix: torch.Tensor) -> torch.Tensor:
    return (matrix + matrix.T) / 2
