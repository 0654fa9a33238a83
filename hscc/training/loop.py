"""The training loop: deterministic for a seed, selected on validation, resumable after a kill.

Every epoch draws its randomness from (seed, epoch) alone, and the state after an epoch is written whole, so a run
that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hscc.networks.backbones import pick_device
from hscc.training.augmentation import Augmentation, augment, resize
from hscc.training.checkpoint import Checkpoint, Row, identity_of
from hscc.training.images import Split, to_input

BatchIndex = tuple[int, int]  # epoch and step
Loss = Callable[[nn.Module, torch.Tensor, torch.Tensor, BatchIndex], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How to optimise: AdamW under a one-cycle schedule (Smith and Topin, 2018).

    Attributes
    ----------
    learning_rate : float
        Peak of the cycle.
    patience : int
        Epochs without a better selection score before stopping.
    select : str
        Column of the history that picks the weights to keep.
    select_lower : bool
        True where smaller is better.
    precision : str
        "bf16" (autocast, where the processor has bfloat16 arithmetic) or "fp32".
    warm_up : float
        Share of the steps in which the rate rises to its peak.
    keep_start : bool
        Whether the weights as given count among those to keep, so that training never makes them worse.
    augmentation : Augmentation
        Of the training images.
    sizes : tuple of int
        Pixels per side of the training images in equal parts of the epochs, such as (128, 128, 176, 224): early epochs
        on small images take less time (progressive resizing; Tan and Le, 2021, EfficientNetV2). Images never grow;
        empty for the size as given. `patience` counts from the last part on.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    seed: int
    select: str
    select_lower: bool
    precision: str = "bf16"
    warm_up: float = 0.3
    keep_start: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    sizes: tuple[int, ...] = ()

    def size(self, epoch: int) -> int | None:
        """Pixels per side of the training images in an epoch from 0; None for the size as given."""
        return self.sizes[epoch * len(self.sizes) // self.epochs] if self.sizes else None

    @property
    def last_part(self) -> int:
        """First epoch on images of the last size."""
        return -(-self.epochs * (len(self.sizes) - 1) // len(self.sizes)) if self.sizes else 0


def fit(
    model: nn.Module,
    loss: Loss,
    evaluate: Callable[[nn.Module], Row],
    train: Split,
    recipe: Recipe,
    checkpoint: Path,
    on_epoch: Callable[[int, Row], None],
) -> list[Row]:
    """Train in place and leave the best weights in the model.

    Parameters
    ----------
    model : nn.Module
        Trained in place, moved to CUDA or MPS where there is one and back to the CPU at the end.
    loss : callable
        (model, inputs (n, 3, S, S), labels (n,), (epoch, step)) -> (scalar loss, logits (n, classes)). A function, or
        `functools.partial` of one with its settings.
    evaluate : callable
        Model -> the validation columns of a history row; a function or a partial as well.
    train : Split
        What to train on.
    recipe : Recipe
        How.
    checkpoint : Path
        Folder for the state after each epoch; removed at the end. The state of a killed run is taken up if everything
        that decides the result was the same (recipe, loss, evaluation, images, labels and the weights as given);
        otherwise training begins anew.
    on_epoch : callable
        Called with (epoch, row) after each epoch, also for those a resumed run finds done.

    Returns
    -------
    list of dict
        One row per epoch: epoch, learning_rate, train_loss, train_accuracy and what `evaluate` gives.

    Raises
    ------
    TypeError
        If `loss` or `evaluate` is a closure: its settings could not be compared after a kill.
    """
    store = Checkpoint(checkpoint, identity_of(recipe, loss, evaluate, train, model))
    device = pick_device()
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=device.type != "mps"
    )
    steps = steps_of(train, recipe)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.epochs * steps + 1, pct_start=recipe.warm_up
    )
    state = store.resume(model, optimizer, schedule, steps)
    for done in state.history:
        on_epoch(int(done["epoch"]), done)
    sign = 1.0 if recipe.select_lower else -1.0
    if recipe.keep_start and not state.history:
        state.best = sign * evaluate(model)[recipe.select]
        store.keep_best(model)
    while state.epoch < recipe.epochs and state.epoch - max(state.best_epoch, recipe.last_part - 1) <= recipe.patience:
        trained = _train_epoch(model, loss, train, recipe, optimizer, schedule, state.epoch)
        rate = float(schedule.get_last_lr()[0])
        row: Row = {"epoch": state.epoch, "learning_rate": rate, **trained, **evaluate(model)}
        state.history.append(row)
        if sign * row[recipe.select] < state.best:
            state.best, state.best_epoch = sign * row[recipe.select], state.epoch
            store.keep_best(model)
        state.epoch += 1
        store.save(model, optimizer, state)
        on_epoch(int(row["epoch"]), row)
    store.restore_best(model)
    store.clear()
    model.to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    model.eval()
    return state.history


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Bfloat16 autocast where `precision` is "bf16" and the processor computes in it."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16" and native)


def _train_epoch(
    model: nn.Module,
    loss: Loss,
    train: Split,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
    epoch: int,
) -> Row:
    device = next(model.parameters()).device
    torch.manual_seed(_mix(recipe.seed, epoch, 1))  # dropout
    total = correct = count = 0.0
    model.train()
    for step, (inputs, labels) in enumerate(epoch_batches(train, recipe, epoch, device)):
        with autocast(recipe.precision, device):
            value, logits = loss(model, inputs, labels, (epoch, step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        count += len(labels)
        total += float(value.detach()) * len(labels)
        correct += float((logits.argmax(1) == labels).sum())
    return {"train_loss": total / count, "train_accuracy": correct / count}


def epoch_batches(
    train: Split, recipe: Recipe, epoch: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the augmented inputs and labels of one epoch, the same for every network trained by the recipe.

    Parameters
    ----------
    train : Split
        What to train on.
    recipe : Recipe
        Its seed and batch size decide order and views.
    epoch : int
        From 0.
    device : torch.device
        Where to put the inputs (n, 3, S, S), channels last, and the labels (n,).
    """
    draw = torch.Generator().manual_seed(_mix(recipe.seed, epoch, 2))
    order = np.random.default_rng((recipe.seed, epoch)).permutation(len(train))
    for step in range(steps_of(train, recipe)):
        images, labels = train.batch(order[step * recipe.batch_size : (step + 1) * recipe.batch_size])
        inputs = to_input(resize(augment(images, draw, recipe.augmentation).to(device), recipe.size(epoch)))
        yield inputs.contiguous(memory_format=torch.channels_last), labels.to(device)


def steps_of(train: Split, recipe: Recipe) -> int:
    """Steps of an epoch; the last images, fewer than a batch, are left out of it."""
    return max(1, len(train) // recipe.batch_size)


def _mix(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")
