"""The training loop: deterministic for a seed, selected on validation, resumable after a kill.

Every epoch draws its randomness from (seed, epoch) alone, and the state after an epoch is written whole, so a run
that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from hscc.errors import TrainingError
from hscc.networks.backbones import pick_device
from hscc.networks.inputs import convert, count
from hscc.networks.memory_order import lay_out
from hscc.training.checkpoint import Checkpoint, Row, State, identity_of
from hscc.training.views import Epochs, Step, mixed_seed

Loss = Callable[[nn.Module, Step], tuple[torch.Tensor, Row]]


@dataclass(frozen=True)
class Recipe:
    """How to optimise: AdamW under a one-cycle schedule (Smith and Topin, 2018).

    Attributes
    ----------
    epochs : int
        Passes over the batches.
    learning_rate : float
        Peak of the cycle.
    weight_decay : float
        Towards zero.
    patience : int
        Epochs without a better selection score before stopping.
    seed : int
        Of dropout.
    select : str
        Column of the history that picks the weights to keep.
    select_lower : bool
        True where smaller is better.
    precision : str
        "bf16" (autocast, where the processor has bfloat16 arithmetic), "fp32", or "auto": the faster of both on a first
        batch.
    warm_up : float
        Share of the steps in which the rate rises to its peak.
    keep_start : bool
        Whether the weights as given count among those to keep, so that training never makes them worse.
    settled : int
        First epoch that counts for patience.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    patience: int
    seed: int
    select: str
    select_lower: bool
    precision: str = "bf16"
    warm_up: float = 0.3
    keep_start: bool = False
    settled: int = 0


def fit(
    model: nn.Module,
    loss: Loss,
    evaluate: Callable[[nn.Module], Row],
    epochs: Epochs,
    recipe: Recipe,
    checkpoint: Path,
    on_epoch: Callable[[int, Row], None],
    identity: tuple[object, ...] | None = None,
) -> list[Row]:
    """Train in place and leave the best weights in the model.

    Parameters
    ----------
    model : nn.Module
        Trained in place, moved to CUDA or MPS where there is one and back to the CPU at the end.
    loss : callable
        (model, step on its device) -> (scalar loss, further columns of the history, as means of the batch). A
        function, or `functools.partial` of one with its settings.
    evaluate : callable
        Model -> the validation columns of a history row; a function or a partial as well.
    epochs : Epochs
        The steps, each of a batch of inputs and targets.
    recipe : Recipe
        How.
    checkpoint : Path
        Folder for the state after each epoch; removed at the end. The state of a killed run is taken up if everything
        that decides the result was the same (recipe, loss, evaluation, batches and the weights as given); otherwise
        training begins anew.
    on_epoch : callable
        Called with (epoch, row) after each epoch, also for those a resumed run finds done.
    identity : tuple, optional
        What decides the result instead of these, for batches that have no digest.

    Returns
    -------
    list of dict
        One row per epoch: epoch, learning_rate, train_loss, what the loss adds and what `evaluate` gives.

    Raises
    ------
    TrainingError
        If the loss is not finite.
    TypeError
        If a part of a checkpoint's identity is a closure: its settings could not be compared after a kill.
    """
    parts = identity if identity is not None else (recipe, loss, evaluate, epochs, model)
    store = Checkpoint(checkpoint, identity_of(*parts))
    device = pick_device()
    model.to(device)
    first = next(iter(epochs(0)))
    lay_out(model, first[0])
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=device.type != "mps"
    )
    total = recipe.epochs * epochs.steps + 1
    warm_up = recipe.warm_up if recipe.warm_up * total != 1 else 0.999 * recipe.warm_up  # torch would divide by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=total, pct_start=warm_up
    )
    state = store.resume(model, optimizer, schedule, epochs.steps)
    for done in state.history:
        on_epoch(int(done["epoch"]), done)
    sign = 1.0 if recipe.select_lower else -1.0
    if not state.history:
        state.precision = _usable_precision(recipe.precision, model, device)
        if state.precision == "auto":
            state.precision = faster_precision(model, loss, first)
        if recipe.keep_start:
            state.best = sign * evaluate(model)[recipe.select]
            store.keep_best(model)
    while state.epoch < recipe.epochs and state.epoch - max(state.best_epoch, recipe.settled - 1) <= recipe.patience:
        trained = _train_epoch(model, loss, epochs, recipe, state, optimizer, schedule)
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


def faster_precision(model: nn.Module, loss: Loss, step: Step, calls: int = 3) -> str:
    """Time forward and backward passes in each precision, in turn, and name the faster one."""
    device = next(model.parameters()).device
    model = copy.deepcopy(model).train()  # running means stay as they are
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    random = torch.random.get_rng_state()
    best = {"fp32": float("inf"), "bf16": float("inf")}
    for call in range(calls + 1):
        for precision in best:
            started = time.perf_counter()
            with autocast(precision, device):
                value, _ = loss(model, to_device(step, device))
            torch.autograd.grad(value, learnt, allow_unused=True)
            float(value.detach())  # waits for a GPU
            if call:  # the first one warms up
                best[precision] = min(best[precision], time.perf_counter() - started)
    torch.random.set_rng_state(random)
    return min(best, key=lambda name: best[name])


def _usable_precision(precision: str, model: nn.Module, device: torch.device) -> str:
    """Return fp32 for networks of volumes on a CPU, else the precision asked for.

    There bf16 gradients of the weights of 3-D convolutions are wrong, up to infinite, in either memory order: seen
    with torch 2.13 on an AMD EPYC.
    """
    volumes = any(parameter.ndim == 5 for parameter in model.parameters())
    if device.type != "cpu" or not volumes or precision == "fp32":
        return precision
    if precision == "bf16":
        warnings.warn("bf16 gradients of 3-D convolutions are wrong on CPUs; computing in fp32.", stacklevel=3)
    return "fp32"


def to_device(step: Step, device: torch.device) -> Step:
    """Move the tensors of a step."""
    return tuple(convert(part, lambda tensor: tensor.to(device, non_blocking=True)) for part in step)


def _train_epoch(
    model: nn.Module,
    loss: Loss,
    epochs: Epochs,
    recipe: Recipe,
    state: State,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
) -> Row:
    device = next(model.parameters()).device
    torch.manual_seed(mixed_seed(recipe.seed, state.epoch, 1))  # dropout
    totals: dict[str, float] = {}
    images = 0
    model.train()
    for step in epochs(state.epoch):
        with autocast(state.precision, device):
            value, columns = loss(model, to_device(step, device))
        if not math.isfinite(float(value.detach())):
            raise TrainingError(
                f"the loss is {float(value.detach())} in epoch {state.epoch + 1}; lower the learning rate of "
                f"{recipe.learning_rate:g}, or compute in fp32 where the precision is {state.precision}."
            )
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()
        schedule.step()
        n = count(step[0])
        images += n
        for name, mean in {"train_loss": float(value.detach()), **columns}.items():
            totals[name] = totals.get(name, 0.0) + mean * n
    return {name: total / images for name, total in totals.items()}
