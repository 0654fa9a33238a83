"""Training of a network that answers several numbers per image: labels, each present or not, or values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from hscc.outputs import Outputs
from hscc.training.agreement import split_logits
from hscc.training.answers import answered
from hscc.training.checkpoint import Row
from hscc.training.images import Split, batches
from hscc.training.target_scores import LABEL_SCORES, VALUE_SCORES, label_scores, over_outputs, value_scores
from hscc.training.views import Step

Criterion = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of answers and targets, both float32 (N, K): the mean loss."""

Scores = Callable[[torch.Tensor, torch.Tensor], Row]
"""Of answers and targets: validation columns."""


@dataclass(frozen=True)
class TargetSplit(Split):
    """Images of one split, with K numbers each.

    Attributes
    ----------
    targets : ndarray of float32, shape (N, K)
        1 or 0 for each label, or values.
    """

    targets: npt.NDArray[np.float32] = field(kw_only=True)

    def batch(self, index: npt.NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (n, ...), as they are in `images`, and targets (n, K) at positions `index` of the split."""
        images, _ = super().batch(index)
        return images, torch.from_numpy(self.targets[index])


def as_target_split(split: Split) -> TargetSplit:
    """A split of these tasks, for the type checker."""
    return cast(TargetSplit, split)


def label_criterion(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of independent sigmoids, mean over images and labels."""
    return F.binary_cross_entropy_with_logits(logits, targets)


def value_criterion(answers: torch.Tensor, targets: torch.Tensor, *, deviations: tuple[float, ...]) -> torch.Tensor:
    """Squared error in units of each value's standard deviation, mean over images and values."""
    return ((answers - targets) / answers.new_tensor(deviations)).square().mean()


def label_columns(logits: torch.Tensor, targets: torch.Tensor) -> Row:
    """``val_<score>`` for each of `LABEL_SCORES`; 0 where it is undefined."""
    found = label_scores(logits.numpy(), targets.numpy(), np.ones((1, len(logits))))
    return _columns({name: found[own] for name, own in LABEL_SCORES.items()})


def value_columns(answers: torch.Tensor, targets: torch.Tensor) -> Row:
    """``val_<score>`` for each of `VALUE_SCORES`; 0 where it is undefined."""
    found = value_scores(answers.numpy(), targets.numpy(), np.ones((1, len(answers))))
    return _columns({name: found[own] for name, own in VALUE_SCORES.items()})


def _columns(figures: dict[str, npt.NDArray[np.float64]]) -> Row:
    return {f"val_{name}": float(np.nan_to_num(over_outputs(found)[0])) for name, found in figures.items()}


def target_loss(model: nn.Module, step: Step, *, criterion: Criterion) -> tuple[torch.Tensor, Row]:
    """Return a criterion as the loop's loss."""
    inputs, targets = step
    return criterion(model(inputs).float(), targets), {}


@torch.no_grad()
def score_targets(
    model: nn.Module, split: TargetSplit, criterion: Criterion, scores: Scores, precision: str = "fp32"
) -> Row:
    """Loss and scores of a network on a split.

    Parameters
    ----------
    model : nn.Module
        Evaluated where it is.
    split : TargetSplit
        The images.
    criterion, scores : callable
        What to compute of all answers.
    precision : str
        "bf16", or float32 for any other.

    Returns
    -------
    dict
        val_loss and the columns of `scores`.
    """
    answers, wanted = map(torch.cat, zip(*answered(model, batches(split), precision), strict=True))
    return {"val_loss": float(criterion(answers, wanted)), **scores(answers, wanted)}


@torch.no_grad()
def target_agreement(
    student: nn.Module, answers: torch.Tensor, split: TargetSplit, outputs: Outputs, scores: Scores
) -> Row:
    """Divergence of a network from the baseline, and its scores, on a split.

    Parameters
    ----------
    student : nn.Module
        Any network.
    answers : Tensor, shape (N, K)
        The baseline's, from `hscc.training.agreement.split_logits`.
    split : TargetSplit
        The same images.
    outputs : Outputs
        What the answers are.
    scores : callable
        What to compute of the student's answers.

    Returns
    -------
    dict
        val_kl (nats, see `hscc.Outputs.divergence`) and the columns of `scores`.
    """
    found = split_logits(student, split)
    return {
        "val_kl": float(outputs.divergence(found, answers).mean()),
        **scores(found, torch.from_numpy(split.targets)),
    }
