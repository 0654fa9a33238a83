"""Factors of a region once its ranks are known: encoder, refitted decoder, corrected bias, balanced norms."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hscc.calibration.moments import RegionMoments


@dataclass(frozen=True)
class RegionFactors:
    """Weights of one region.

    Attributes
    ----------
    encoder : Tensor, shape (K, d)
        Block rows stacked; zero outside a block's own features.
    decoder : Tensor, shape (C_out, K)
        One for all blocks.
    bias : Tensor, shape (C_out,)
        Carries the mean of what the factors leave out.
    loss : float
        Exact quadratic loss of the region on the calibration images, in squared logits.
    """

    encoder: torch.Tensor
    decoder: torch.Tensor
    bias: torch.Tensor
    loss: float


def region_factors(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    moments: RegionMoments,
    sensitivity: torch.Tensor,
    encoder: torch.Tensor,
) -> RegionFactors:
    """Fit the decoder to an encoder and measure what is lost.

    The blocks' encoders were found apart; their inputs are only nearly uncorrelated. Given all of them, the decoder
    U = W A V^T (V A V^T)^-1 is the best one in every output norm (least squares), so it takes up what the blocks share.

    Parameters
    ----------
    weight : Tensor, shape (C_out, d)
        Dense weight.
    bias : Tensor, shape (C_out,) or None
        Dense bias.
    moments : RegionMoments
        Of the region.
    sensitivity : Tensor, shape (C_out, C_out)
        Norm in which the loss is measured.
    encoder : Tensor, shape (K, d)
        K may be 0: the region becomes a constant.
    """
    decoder = _fit_decoder(weight, moments, encoder)
    residual = weight - decoder @ encoder
    new_bias = residual @ moments.mean + (0 if bias is None else bias)
    loss = float((sensitivity * second_moment(residual, moments)).sum()) * moments.positions
    return RegionFactors(*_balance(encoder, decoder), new_bias, loss)


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
    spread = second_moment(residual, moments) + torch.outer(shift, shift)
    return float((moments.sensitivity * spread).sum()) * moments.positions


def second_moment(matrix: torch.Tensor, moments: RegionMoments) -> torch.Tensor:
    """Covariance of ``matrix @ x`` over a region, shape (rows, rows)."""
    if moments.root is not None:
        outputs = moments.root @ matrix.T
        gram: torch.Tensor = outputs.T @ outputs
        return gram
    assert moments.covariance is not None
    return matrix @ moments.covariance @ matrix.T


def _fit_decoder(weight: torch.Tensor, moments: RegionMoments, encoder: torch.Tensor) -> torch.Tensor:
    rank, features = encoder.shape
    if rank == 0:
        return weight.new_zeros(len(weight), 0)
    if rank >= features:
        # The encoder spans everything, also directions the calibration images never took: reproduce W itself.
        exact: torch.Tensor = weight @ torch.linalg.pinv(encoder)
        return exact
    if moments.root is not None:
        codes, outputs = moments.root @ encoder.T, moments.root @ weight.T
        gram, cross = codes.T @ codes, codes.T @ outputs
    else:
        assert moments.covariance is not None
        seen = encoder @ moments.covariance
        gram, cross = seen @ encoder.T, seen @ weight.T
    # Directions without variance stay where the weights themselves put them: a small pull towards V's pseudo-inverse.
    ridge = 1e-6 * float(gram.diagonal().mean()) + 1e-30
    scale = encoder.square().sum(1).mean().clamp_min(1e-30)
    gram = gram + (ridge / scale) * (encoder @ encoder.T)
    cross = cross + (ridge / scale) * (encoder @ weight.T)
    solved: torch.Tensor = torch.linalg.solve(gram.double(), cross.double())
    return solved.T.to(weight.dtype)


def _balance(encoder: torch.Tensor, decoder: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each rank's two factors the same norm; unbalanced ones make fine-tuning diverge."""
    rows, columns = encoder.norm(dim=1).clamp_min(1e-30), decoder.norm(dim=0).clamp_min(1e-30)
    scale = (columns / rows).sqrt()
    return encoder * scale[:, None], decoder / scale
