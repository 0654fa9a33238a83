"""Training of the dense baseline: cross-entropy on labels, kept by validation accuracy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from hscc.training.checkpoint import Row
from hscc.training.images import Split, batches
from hscc.training.loop import Recipe, autocast, fit
from hscc.training.views import Epochs, Step


def train_baseline(
    model: nn.Module,
    train: Epochs,
    val: Split,
    recipe: Recipe,
    label_smoothing: float,
    checkpoint: Path,
    on_epoch: Callable[[int, Row], None],
) -> list[Row]:
    """Train a classifier in place on inputs and labels; see `hscc.training.loop.fit` for resuming.

    Returns
    -------
    list of dict
        The history: epoch, learning_rate, train_loss, train_accuracy, val_loss, val_accuracy.
    """
    loss = partial(cross_entropy, label_smoothing=label_smoothing)
    return fit(model, loss, partial(score, split=val, precision=recipe.precision), train, recipe, checkpoint, on_epoch)


def cross_entropy(model: nn.Module, step: Step, *, label_smoothing: float) -> tuple[torch.Tensor, Row]:
    """Cross-entropy with label smoothing (Szegedy et al., 2016) as the loop's loss, and the accuracy."""
    inputs, labels = step
    logits = model(inputs)
    accuracy = float((logits.argmax(1) == labels).float().mean())
    return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing), {"train_accuracy": accuracy}


@torch.no_grad()
def score(model: nn.Module, split: Split, precision: str = "fp32") -> Row:
    """Mean cross-entropy and accuracy of a classifier on a split.

    Returns
    -------
    dict
        val_loss (nats) and val_accuracy (0 to 1).
    """
    device = next(model.parameters()).device
    model.eval()
    loss = correct = 0.0
    for inputs, labels in batches(split):
        with autocast(precision, device):
            logits = model(inputs.to(device)).float().cpu()
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        correct += float((logits.argmax(1) == labels).sum())
    return {"val_loss": loss / len(split), "val_accuracy": correct / len(split)}
