"""Factors of a region once its ranks are known: encoder, refitted decoder, corrected bias, balanced norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hscc.calibration.moments import RegionMoments
from hscc.factorisation.eigen import eigh
from hscc.factorisation.spectra import Norm


@dataclass(frozen=True)
class Encoder:
    """Encoders of the blocks of a region, each on its own features.

    Attributes
    ----------
    columns : sequence of Tensor of int64
        Features of each block.
    rows : sequence of Tensor, shape (rank, d_c)
        One per block; rank may be 0.
    """

    columns: Sequence[torch.Tensor]
    rows: Sequence[torch.Tensor]

    def after(self, matrix: torch.Tensor) -> torch.Tensor:
        """Return V @ matrix, shape (K, n), for a matrix (d, n)."""
        whole = len(self.rows) == 1 and self.rows[0].shape[1] == len(matrix)
        if whole:
            return self.rows[0] @ matrix
        return torch.cat([row @ matrix[columns] for row, columns in zip(self.rows, self.columns, strict=True)])


@dataclass(frozen=True)
class RegionFactors:
    """Weights of one region.

    Attributes
    ----------
    encoders : list of Tensor, shape (rank, d_c)
        One per block.
    decoder : Tensor, shape (C_out, K)
        One for all blocks.
    bias : Tensor, shape (C_out,)
        Includes the mean of what the factors leave out.
    loss : float
        Quadratic loss of the region on the calibration images, in squared logits.
    """

    encoders: list[torch.Tensor]
    decoder: torch.Tensor
    bias: torch.Tensor
    loss: float


def region_factors(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    moments: RegionMoments,
    norm: Norm,
    energy: float,
    encoder: Encoder,
) -> RegionFactors:
    """Fit the decoder to an encoder and measure what is lost.

    The blocks' encoders were found apart; their inputs are only nearly uncorrelated. Given all of them, the decoder
    U = W A V^T (V A V^T)^-1 is the best one in every output norm (least squares), so it takes up what the blocks share.
    Where the weights alone are decomposed, U is V's own transpose and the bias stays.

    Parameters
    ----------
    weight : Tensor, shape (C_out, d)
        Dense weight.
    bias : Tensor, shape (C_out,) or None
        Dense bias.
    moments : RegionMoments
        Of the region.
    norm : Norm
        In which the loss is measured.
    energy : float
        Of the region's dense outputs in that norm; see `output_energy`.
    encoder : Encoder
        Of total rank K; with K = 0 the region becomes a constant.
    """
    dense_bias = weight.new_zeros(len(weight)) if bias is None else bias.to(weight.dtype)
    codes = _CodeMoments(weight, moments, encoder)
    if norm.weighting == "none":
        decoder = _pseudo_inverse_decoder(weight, encoder)
        new_bias = dense_bias
        shift = weight @ moments.mean - decoder @ encoder.after(moments.mean[:, None])[:, 0]
    else:
        decoder = _fit_decoder(weight, codes, encoder)
        new_bias = dense_bias + weight @ moments.mean - decoder @ encoder.after(moments.mean[:, None])[:, 0]
        shift = torch.zeros_like(dense_bias)
    loss = energy - codes.explained(decoder, norm.sensitivity) + float(shift @ norm.sensitivity @ shift)
    rows, columns = balance(encoder.rows, decoder)
    return RegionFactors(rows, columns, new_bias, max(loss, 0.0) * moments.positions)


def weight_loss(residual: torch.Tensor, moments: RegionMoments) -> float:
    """Loss of a residual W - W' whose bias is not corrected: the mean counts, in the layer's own sensitivity.

    Parameters
    ----------
    residual : Tensor, shape (C_out, d)
        What the factors leave out.
    moments : RegionMoments
        Of the whole layer.
    """
    shift = residual @ moments.mean
    spread = output_moment(residual, moments) + torch.outer(shift, shift)
    return float((moments.sensitivity * spread).sum()) * moments.positions


def output_moment(matrix: torch.Tensor, moments: RegionMoments) -> torch.Tensor:
    """Covariance of ``matrix @ x`` over a region, shape (rows, rows)."""
    if moments.root is not None:
        outputs = moments.root @ matrix.T
        gram: torch.Tensor = outputs.T @ outputs
        return gram
    assert moments.covariance is not None
    return matrix @ moments.covariance @ matrix.T


def dense_outputs(weight: torch.Tensor, moments: RegionMoments) -> torch.Tensor:
    """Outputs of the dense layer over a region: R W^T of a single-position layer, else their covariance W A W^T."""
    return output_moment(weight, moments) if moments.root is None else moments.root @ weight.T


def output_energy(
    outputs: torch.Tensor,
    moments: RegionMoments,
    sensitivity: torch.Tensor,
    weighted: torch.Tensor | None = None,
) -> float:
    """E ||G^1/2 W (x - mean)||^2 of one position of a region, from its `dense_outputs`.

    ``weighted`` is ``outputs @ sensitivity`` of a single-position layer where it is known already.
    """
    if moments.root is None:
        return float((sensitivity * outputs).sum(dtype=torch.float64))
    if weighted is None:
        weighted = outputs @ sensitivity
    return float((weighted * outputs).sum(dtype=torch.float64))


class _CodeMoments:
    """Second moments of codes V x and outputs W x over a region, each computed once."""

    def __init__(self, weight: torch.Tensor, moments: RegionMoments, encoder: Encoder) -> None:
        if moments.root is not None:
            codes = encoder.after(moments.root.T)
            self.gram, self.cross = codes @ codes.T, (codes @ moments.root) @ weight.T
        else:
            assert moments.covariance is not None
            shared = encoder.after(moments.covariance)
            self.gram, self.cross = encoder.after(shared.T), shared @ weight.T

    def explained(self, decoder: torch.Tensor, sensitivity: torch.Tensor) -> float:
        """Return the part of the energy tr G W A W^T that the factors explain: tr G (2 U V A W^T - U V A V^T U^T)."""
        left = (sensitivity @ decoder).T.double()
        return float(2 * (left * self.cross.double()).sum() - (left @ decoder.double() * self.gram.double()).sum())


def _fit_decoder(weight: torch.Tensor, codes: _CodeMoments, encoder: Encoder) -> torch.Tensor:
    rank, features = len(codes.gram), weight.shape[1]
    if rank == 0:
        return weight.new_zeros(len(weight), 0)
    if rank >= features:
        # The encoder spans everything, also directions without variance in the calibration images: reproduce W itself.
        return _pseudo_inverse_decoder(weight, encoder)
    # In the units of unit encoder rows, so that what is noise does not depend on how the rows are scaled.
    own = torch.block_diag(*(row.double() @ row.double().T for row in encoder.rows))  # blocks share no feature
    unit = own.diagonal().clamp_min(1e-60).rsqrt()
    own, gram = own * torch.outer(unit, unit), codes.gram.double() * torch.outer(unit, unit)
    # Directions without variance stay where the weights themselves put them: V's pseudo-inverse. A solve without a
    # threshold would divide rounding errors by each other there.
    start = _solve_above(own, unit[:, None] * encoder.after(weight.T).double(), 1e-12)
    cross, tolerance = unit[:, None] * codes.cross.double(), 10 * torch.finfo(weight.dtype).eps
    # Where the encoder spans the weights, the start leaves rounding errors alone; divided by a small variance they
    # would become weights that show on inputs unlike the calibration's.
    solved = start + _solve_above(gram, cross - gram @ start, tolerance, noise=tolerance * cross.norm(dim=0))
    decoder: torch.Tensor = (unit[:, None] * solved).T.to(weight.dtype)
    return decoder


def _solve_above(
    matrix: torch.Tensor, right: torch.Tensor, tolerance: float, noise: torch.Tensor | float = 0.0
) -> torch.Tensor:
    """Least-squares solution of a positive semidefinite system in the directions above rounding errors.

    Of the right side, components up to ``noise`` (one per column) count as zero.
    """
    values, vectors = eigh((matrix + matrix.T) / 2)
    inverse = torch.where(values > tolerance * values[-1].clamp_min(1e-300), 1 / values, 0.0)
    parts = vectors.T @ right
    solved: torch.Tensor = vectors @ (inverse[:, None] * parts.where(parts.abs() > noise, 0.0))
    return solved


def _pseudo_inverse_decoder(weight: torch.Tensor, encoder: Encoder) -> torch.Tensor:
    parts = [
        weight[:, columns] @ torch.linalg.pinv(row) for row, columns in zip(encoder.rows, encoder.columns, strict=True)
    ]
    return torch.cat(parts, dim=1)


def balance(rows: Sequence[torch.Tensor], decoder: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Give each rank's two factors the same norm; unbalanced ones make fine-tuning diverge."""
    before = torch.cat([row.norm(dim=1) for row in rows])
    silent = before <= 1e-30
    if silent.any():  # their codes are always zero, so their columns of the decoder are arbitrary
        decoder = decoder.masked_fill(silent, 0.0)
    before = before.clamp_min(1e-30)
    scale = (decoder.norm(dim=0).clamp_min(1e-30) / before).sqrt()
    scaled = [
        row * part[:, None] for row, part in zip(rows, scale.split([len(row) for row in rows]), strict=True)
    ]  # fmt: skip
    return scaled, decoder / scale
