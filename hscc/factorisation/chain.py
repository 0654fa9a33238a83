"""A factored layer as a product of linear maps, whatever its structure: W = U_r V_r (P x I) in each region r."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hscc.factorisation.factors import RegionFactors


@dataclass(frozen=True)
class Chain:
    """Weights of a factored layer.

    A patch x of d features, laid out as (q, s), is first mapped to (p, s) by a matrix that all s share: the projection
    of the channels for each tap of a kernel, or the column filters of a spatial SVD for each tap of a row. Each region
    of output positions then has encoders, each of some of the p s features, and one decoder with a bias.

    Attributes
    ----------
    projection : Tensor, shape (p, q), or None
        Shared by all regions; None where the encoders read the patch itself.
    columns : sequence of sequence of Tensor of int64
        By region and block: the features that an encoder reads. Empty for a region whose decoder reads all p s
        features without an encoder.
    regions : sequence of RegionFactors
        Encoders, decoder and bias of each region; one encoder (which may have rank 0) per entry of `columns`.
    biased : bool
        Whether the layer has a bias.
    """

    projection: torch.Tensor | None
    columns: Sequence[Sequence[torch.Tensor]]
    regions: Sequence[RegionFactors]
    biased: bool

    def project(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return (P x I) @ matrix, shape (p s, n), for a matrix (d, n)."""
        return matrix if self.projection is None else project_rows(self.projection, matrix)

    def weight(self, region: int, features: int) -> torch.Tensor:
        """Multiply out the factors of a region, shape (C_out, d)."""
        made = self.inner_weight(region, features)
        return made if self.projection is None else project_columns(self.projection, made)

    def inner_weight(self, region: int, features: int) -> torch.Tensor:
        """Multiply out decoder and encoders of a region, shape (C_out, p s).

        Parameters
        ----------
        region : int
            Index.
        features : int
            Features d of the layer's patch.
        """
        factors, columns = self.regions[region], self.columns[region]
        if not columns:
            return factors.decoder
        made = factors.decoder.new_zeros(len(factors.decoder), self.inner_features(features))
        parts = factors.decoder.split([len(rows) for rows in factors.encoders], dim=1)
        for part, rows, index in zip(parts, factors.encoders, columns, strict=True):
            made[:, index] = part @ rows
        return made

    def inner_features(self, features: int) -> int:
        """Features p s behind the projection."""
        if self.projection is None:
            return features
        return len(self.projection) * (features // self.projection.shape[1])


def project_rows(projection: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return (P x I) @ matrix, shape (p s, n), for P (p, q) and a matrix (q s, n)."""
    inputs = projection.shape[1]
    return (projection @ matrix.reshape(inputs, -1)).reshape(-1, matrix.shape[1])


def project_columns(projection: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return matrix @ (P x I), shape (n, q s), for P (p, q) and a matrix (n, p s)."""
    wide = matrix.reshape(len(matrix), len(projection), -1)
    return torch.einsum("nps,pq->nqs", wide, projection).reshape(len(matrix), -1)
