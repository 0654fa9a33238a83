"""How far a network is from its dense one on a split of images."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hscc.training.answers import answered
from hscc.training.checkpoint import Row
from hscc.training.images import Split, batches
from hscc.training.supervised import scores_of


def split_logits(network: nn.Module, split: Split) -> torch.Tensor:
    """Logits of a network on a whole split, float32 (N, classes), on the CPU."""
    return torch.cat([logits for logits, _ in answered(network, batches(split))])


@torch.no_grad()
def agreement(student: nn.Module, targets: torch.Tensor, split: Split, primary: str = "accuracy") -> Row:
    """Divergence of a classifier to the baseline, and its scores, on a split.

    Parameters
    ----------
    student : nn.Module
        Any network.
    targets : Tensor, shape (N, classes)
        The baseline's logits, from `split_logits`.
    split : Split
        The same images.
    primary : str
        A score of `hscc.training.scores` beside accuracy.

    Returns
    -------
    dict
        val_kl (nats, baseline to student), val_accuracy and ``val_<primary>`` (0 to 1).
    """
    logits = split_logits(student, split)
    divergence = F.kl_div(logits.log_softmax(1), targets.log_softmax(1), log_target=True, reduction="batchmean")
    return {"val_kl": float(divergence), **scores_of(logits, torch.from_numpy(split.labels), primary)}
