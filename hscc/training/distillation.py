"""Fine-tuning of a compressed network by distillation from its own baseline, with one recipe for every method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from hscc.training.checkpoint import Row
from hscc.training.images import Split, batches
from hscc.training.loop import BatchIndex, Recipe, autocast, epoch_batches, fit


def distil(
    student: nn.Module,
    teacher: torch.Tensor,
    train: Split,
    val: Split,
    targets: torch.Tensor,
    recipe: Recipe,
    temperature: float,
    checkpoint: Path,
    on_epoch: Callable[[int, Row], None],
) -> list[Row]:
    """Fine-tune in place towards the teacher's outputs, kept by divergence on validation.

    Parameters
    ----------
    student : nn.Module
        The compressed network.
    teacher : Tensor, shape (epochs, steps, n, classes)
        The teacher's logits on every batch of the recipe, from `teacher_batch_logits`.
    train, val : Split
        Labels are not used for learning.
    targets : Tensor, shape (N, classes)
        The teacher's logits on `val`, from `teacher_logits`.
    recipe : Recipe
        The same for every method.
    temperature : float
        Of the softened outputs.
    checkpoint, on_epoch
        As in `hscc.training.loop.fit`.

    Returns
    -------
    list of dict
        The history: epoch, learning_rate, train_loss, train_accuracy, val_kl, val_accuracy.
    """
    loss = partial(distillation_loss, teacher=teacher, temperature=temperature)
    evaluate = partial(agreement, targets=targets, split=val)
    with _without_dropout(student):
        return fit(student, loss, evaluate, train, recipe, checkpoint, on_epoch)


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    # The teacher's outputs are exact targets: noise in the student only keeps it from reaching them in a few epochs.
    layers = [module for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    rates = [layer.p for layer in layers]
    for layer in layers:
        layer.p = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.p = rate


def distillation_loss(
    student: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    index: BatchIndex,
    *,
    teacher: torch.Tensor,
    temperature: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Kullback-Leibler divergence to the teacher's softened outputs (Hinton et al., 2015), times T^2."""
    epoch, step = index
    target = F.log_softmax(teacher[epoch, step].to(inputs.device) / temperature, dim=1)
    logits = student(inputs)
    softened = F.log_softmax(logits.float() / temperature, dim=1)
    return F.kl_div(softened, target, log_target=True, reduction="batchmean") * temperature**2, logits


@torch.no_grad()
def teacher_batch_logits(teacher: nn.Module, train: Split, recipe: Recipe) -> torch.Tensor:
    """Logits of a teacher on every batch that a recipe draws, float32 (epochs, steps, n, classes), on the CPU.

    Order and views depend on the recipe alone, so all students of one recipe share these few megabytes.
    """
    teacher.eval()
    device = next(teacher.parameters()).device
    epochs = []
    for epoch in range(recipe.epochs):
        with autocast(recipe.precision, device):
            logits = [teacher(inputs).float().cpu() for inputs, _ in epoch_batches(train, recipe, epoch, device)]
        epochs.append(torch.stack(logits))
    return torch.stack(epochs)


@torch.no_grad()
def teacher_logits(teacher: nn.Module, split: Split) -> torch.Tensor:
    """Logits of a network on a whole split, float32 (N, classes), on the CPU."""
    teacher.eval()
    device = next(teacher.parameters()).device
    return torch.cat([teacher(inputs.to(device)).float().cpu() for inputs, _ in batches(split)])


@torch.no_grad()
def agreement(student: nn.Module, targets: torch.Tensor, split: Split) -> Row:
    """Divergence to the baseline and accuracy on a split.

    Parameters
    ----------
    student : nn.Module
        Any network.
    targets : Tensor, shape (N, classes)
        The baseline's logits, from `teacher_logits`.
    split : Split
        The same images.

    Returns
    -------
    dict
        val_kl (nats, baseline to student) and val_accuracy (0 to 1).
    """
    logits = teacher_logits(student, split)
    divergence = F.kl_div(logits.log_softmax(1), targets.log_softmax(1), log_target=True, reduction="batchmean")
    labels = torch.from_numpy(split.labels)
    return {"val_kl": float(divergence), "val_accuracy": float((logits.argmax(1) == labels).float().mean())}
