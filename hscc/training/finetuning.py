"""Fine-tuning of a compressed network by distillation from its dense one, with one recipe for every method.

Labels are not needed: the dense network's answers are the targets (Hinton et al., 2015, Distilling the knowledge in a
neural network), on images mixed with each other too (Beyer et al., 2022, Knowledge distillation: a good teacher is
patient and consistent).
"""

from __future__ import annotations

import copy
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn

from hscc.errors import CompressionError, TrainingError
from hscc.files import replacing
from hscc.networks.backbones import pick_device
from hscc.networks.inputs import Batch, as_input, check_batch, run
from hscc.networks.inspection import evaluating
from hscc.networks.memory_order import laid_out, lay_out
from hscc.outputs import Outputs
from hscc.training.checkpoint import Row, identity_of
from hscc.training.loop import Recipe, autocast, fit
from hscc.training.views import Epochs, Mixed, Step

Evaluate = Callable[[nn.Module], Row]
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from the start to the end


@dataclass(frozen=True)
class Finetuning:
    """How to fine-tune; the defaults are the pipeline's.

    Attributes
    ----------
    epochs : int
        Passes over the batches.
    learning_rates : tuple of float
        Peaks of the one-cycle schedule of AdamW. Each is tried in a short run, and the one with the least divergence on
        validation is taken; one alone is taken untried.
    trial_steps : int
        Steps of these runs.
    mixup : float
        Of the Beta distribution of the weights by which two images of a batch are mixed; 0 for none.
    temperature : float
        Of the softened answers.
    warm_up : float
        Share of the steps in which the rate rises to its peak.
    patience : int
        Epochs without a lower divergence on validation before it stops.
    precision : str
        "auto" (the faster one here), "bf16" or "fp32".
    seed : int
        Of mixing.
    """

    epochs: int = 4
    learning_rates: tuple[float, ...] = (3e-5, 1e-4, 3e-4)
    trial_steps: int = 24
    mixup: float = 1.0
    temperature: float = 2.0
    warm_up: float = 0.3
    patience: int = 2
    precision: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        wrong = [
            name
            for name, fits in (
                ("epochs", self.epochs >= 1),
                ("learning_rates", bool(self.learning_rates) and min(self.learning_rates) > 0),
                ("trial_steps", self.trial_steps >= 1),
                ("mixup", self.mixup >= 0),
                ("temperature", self.temperature > 0),
                ("warm_up", 0 < self.warm_up < 1),
                ("patience", self.patience >= 1),
                ("precision", self.precision in ("auto", "bf16", "fp32")),
            )
            if not fits
        ]
        if wrong:
            raise CompressionError(
                f"{wrong[0]}={getattr(self, wrong[0])!r} is out of range of a fine-tuning; see its help."
            )


@dataclass(frozen=True)
class Trial:
    """A short run at one learning rate, and the divergence on validation after it."""

    learning_rate: float
    divergence: float


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned network.

    Attributes
    ----------
    network : nn.Module
        With the structures, costs and ``hscc_plan`` of the one that was given.
    history : tuple of dict
        One row per epoch: epoch, learning_rate, train_loss and the validation columns, of which val_kl (nats) selects.
    learning_rate : float
        Of the run.
    trials : tuple of Trial
        By learning rate; empty where one was given.
    share : float
        How far the network is from the weights as given (0) to the best epoch's (1): the point between them with the
        least divergence on validation, so that fine-tuning never makes it worse.
    before, after : dict
        The validation columns.
    """

    network: nn.Module
    history: tuple[Row, ...]
    learning_rate: float
    trials: tuple[Trial, ...]
    share: float
    before: Row
    after: Row


def finetune(
    small: nn.Module,
    model: nn.Module,
    batches: Iterable[Batch] | Callable[[int], Iterable[Batch]],
    validation: Iterable[Batch],
    recipe: Finetuning | None = None,
    *,
    output: Outputs | None = None,
    checkpoint: Path | None = None,
    on_epoch: Callable[[int, Row], None] | None = None,
) -> Finetuned:
    """Train a compressed network towards its dense one.

    Parameters
    ----------
    small : nn.Module
        From `apply`, `compress`, `refit` or `load`; left as it was.
    model : nn.Module
        The dense network; left as it was.
    batches : iterable of Tensor, shape (N, C, ...), or of tuples or dicts of Tensor; or function
        Batches of network inputs, as for `hscc.calibrate`, read once per epoch: a list, or a DataLoader that augments.
        A function gets the epoch (from 0) and returns them; with it a resumed run can see what the killed one would
        have seen.
    validation : iterable of Tensor
        Batches of other inputs, which decide the learning rate, the epoch, and how much of the training is kept.
    recipe : Finetuning, optional
        How.
    output : Outputs, optional
        What counts of the networks' answers; by default chosen by their shape.
    checkpoint : Path, optional
        Folder for the state after each epoch, from which a killed run of the same settings and networks goes on;
        removed at the end.
    on_epoch : callable, optional
        Called with (epoch, row) after each epoch.

    Returns
    -------
    Finetuned
        The network on the CPU, and how it came about.

    Raises
    ------
    CompressionError
        If there are no batches, or a setting is out of range.
    """
    recipe = recipe or Finetuning()
    device = pick_device()
    teacher = copy.deepcopy(model).to(device)
    with evaluating(teacher):
        held = [check_batch(batch) for batch in validation]
        if not held:
            raise CompressionError(
                "no validation batch was given; pass a few batches of other images than those to train on."
            )
        chosen = output or Outputs.infer(run(teacher, as_input(teacher, held[0])))
        targets = answers(teacher, held, chosen)
        evaluate = partial(_evaluate, batches=held, targets=targets, output=chosen)
        epochs = Answered(Mixed(Given(batches), recipe.mixup, recipe.seed), teacher, chosen)
        student = copy.deepcopy(small)
        identity = (recipe, str(chosen), model, small, targets)
        tell = on_epoch or (lambda epoch, row: None)
        with tempfile.TemporaryDirectory() as folder:
            return distil(student, epochs, evaluate, recipe, chosen, checkpoint or Path(folder, "run"), tell, identity)


def distil(
    student: nn.Module,
    epochs: Epochs,
    evaluate: Evaluate,
    recipe: Finetuning,
    output: Outputs,
    checkpoint: Path,
    on_epoch: Callable[[int, Row], None],
    identity: tuple[object, ...],
) -> Finetuned:
    """Fine-tune in place on inputs whose dense answers are known.

    Parameters
    ----------
    student : nn.Module
        The compressed network.
    epochs : Epochs
        Inputs and the dense network's answers to them.
    evaluate : callable
        Network -> validation columns, val_kl among them.
    recipe, output, checkpoint, on_epoch
        As in `finetune`.
    identity : tuple
        All that decides the result, for `hscc.training.checkpoint.identity_of`.
    """
    loss = partial(distillation_loss, output=output, temperature=recipe.temperature)
    with _without_dropout(student):
        before = evaluate(student)
        # On the CPU, where the student is after `fit`.
        start = {key: value.detach().to("cpu", copy=True) for key, value in student.state_dict().items()}
        kept = checkpoint / "trials.json"
        trials = _trials(student, epochs, evaluate, loss, recipe, kept, identity)
        rate = min(trials, key=lambda trial: trial.divergence).learning_rate
        history = fit(
            student, loss, evaluate, epochs, _recipe(recipe, rate, recipe.epochs), checkpoint / "run", on_epoch,
            (*identity, rate),
        )  # fmt: skip
        kept.unlink(missing_ok=True)
        share, after = _interpolate(student, start, evaluate)
        with suppress(OSError):  # the caller's folder, with other files in it
            checkpoint.rmdir()
    tried = trials if len(trials) > 1 else ()
    return Finetuned(student, tuple(history), rate, tried, share, before, after)


def distillation_loss(
    student: nn.Module, step: Step, *, output: Outputs, temperature: float
) -> tuple[torch.Tensor, Row]:  # fmt: skip
    """Mean divergence to the teacher's softened answers as the loop's loss."""
    inputs, targets = step
    found = output.select(run(student, as_input(student, inputs)))
    return output.divergence(found, targets, temperature).mean(), {}


@torch.no_grad()
def answers(model: nn.Module, batches: Sequence[Batch], output: Outputs) -> torch.Tensor:
    """What counts of a network's answers to some batches, float32 (N, K, ...), on the CPU."""
    with evaluating(model), laid_out(model, batches[0]):
        return torch.cat([output.select(run(model, as_input(model, batch))).float().cpu() for batch in batches])


def _evaluate(model: nn.Module, *, batches: Sequence[Batch], targets: torch.Tensor, output: Outputs) -> Row:
    return {"val_kl": float(output.divergence(answers(model, batches, output), targets).mean())}


@dataclass(frozen=True)
class Given:
    """The batches of a caller, as epochs."""

    batches: Iterable[Batch] | Callable[[int], Iterable[Batch]]

    @cached_property  # without a length all batches are read to be counted
    def steps(self) -> int:
        """Batches of an epoch."""
        first = self.batches(0) if callable(self.batches) else self.batches
        if isinstance(first, Iterator) and not callable(self.batches):
            raise CompressionError(
                "the batches to fine-tune on can be read only once; pass a list, a DataLoader or a function of the "
                "epoch."
            )
        steps = len(first) if isinstance(first, Sized) else sum(1 for _ in first)
        if not steps:
            raise CompressionError(
                "no batch was given to fine-tune on; pass an iterable that can be read once per epoch."
            )
        return steps

    def __call__(self, epoch: int) -> Iterator[Step]:
        """Yield inputs."""
        for inputs in self.batches(epoch) if callable(self.batches) else self.batches:
            yield (check_batch(inputs),)


@dataclass(frozen=True)
class Answered:
    """Batches of inputs with the answers of a network, asked for as they come."""

    epochs: Epochs
    network: nn.Module
    output: Outputs

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.epochs.steps

    def __call__(self, epoch: int) -> Iterator[Step]:
        """Yield inputs and answers."""
        for step, (inputs,) in enumerate(self.epochs(epoch)):
            if not step:
                lay_out(self.network, inputs)
            with torch.no_grad():
                targets = self.output.select(run(self.network, as_input(self.network, inputs)))
            yield inputs, targets


@dataclass(frozen=True)
class Known:
    """Batches of inputs whose answers are known.

    Attributes
    ----------
    epochs : Epochs
        The inputs.
    answers : Tensor, shape (epochs, steps, n, K, ...)
        What counts of the dense network's answers.
    """

    epochs: Epochs
    answers: torch.Tensor

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self.epochs.steps

    def __call__(self, epoch: int) -> Iterator[Step]:
        """Yield inputs and answers."""
        for (inputs,), answers in zip(self.epochs(epoch), self.answers[epoch], strict=True):
            yield inputs, answers


@torch.no_grad()
def ask(model: nn.Module, epochs: Epochs, count: int, output: Outputs, precision: str) -> Known:
    """Ask a network about all batches of the first epochs at once, for several students of the same batches.

    Parameters
    ----------
    model : nn.Module
        The dense network; left as it was.
    epochs : Epochs
        Inputs, all batches of one size.
    count : int
        Epochs.
    output : Outputs
        What counts.
    precision : str
        "bf16", or float32 for any other.
    """
    device = pick_device()
    network = copy.deepcopy(model).eval().to(device)
    lay_out(network, next(iter(epochs(0)))[0])
    with autocast(precision, device):
        found = [
            torch.stack(
                [output.select(run(network, as_input(network, inputs))).float().cpu() for (inputs,) in epochs(epoch)]
            )
            for epoch in range(count)
        ]
    return Known(epochs, torch.stack(found))


@dataclass(frozen=True)
class _First:
    """The first batches of an epoch."""

    epochs: Epochs
    most: int

    @property
    def steps(self) -> int:
        return min(self.most, self.epochs.steps)

    def __call__(self, epoch: int) -> Iterator[Step]:
        for _, batch in zip(range(self.steps), self.epochs(epoch), strict=False):
            yield batch


def _trials(
    student: nn.Module,
    epochs: Epochs,
    evaluate: Evaluate,
    loss: Callable[[nn.Module, Step], tuple[torch.Tensor, Row]],
    recipe: Finetuning,
    kept: Path,
    identity: tuple[object, ...],
) -> tuple[Trial, ...]:
    """Try each learning rate, or read the trials of a killed run."""
    if len(recipe.learning_rates) == 1:
        return (Trial(recipe.learning_rates[0], 0.0),)
    digest = identity_of(*identity)
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["identity"] == digest:
            return tuple(Trial(*trial) for trial in found["trials"])
    few = _First(epochs, recipe.trial_steps)
    trials = []
    for rate in recipe.learning_rates:
        network = copy.deepcopy(student)
        settings = _recipe(recipe, rate, 1)
        with tempfile.TemporaryDirectory() as folder:
            try:
                (row,) = fit(network, loss, evaluate, few, settings, Path(folder, "trial"), lambda *_: None, (rate,))
            except TrainingError:  # too high a rate
                trials.append(Trial(rate, math.inf))
                continue
        trials.append(Trial(rate, row["val_kl"]))
    kept.parent.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as new:
        rows = [(trial.learning_rate, trial.divergence) for trial in trials]
        new.write_text(json.dumps({"identity": digest, "trials": rows}), encoding="utf-8")
    return tuple(trials)


def _recipe(recipe: Finetuning, rate: float, epochs: int) -> Recipe:
    return Recipe(
        epochs=epochs,
        learning_rate=rate,
        weight_decay=0.0,  # towards the dense network, not towards zero
        patience=recipe.patience,
        seed=recipe.seed,
        select="val_kl",
        select_lower=True,
        precision=recipe.precision,
        warm_up=recipe.warm_up,
    )


def _interpolate(student: nn.Module, start: dict[str, torch.Tensor], evaluate: Evaluate) -> tuple[float, Row]:
    """Leave the network at the best point between two sets of weights (Wortsman et al., 2022, Robust fine-tuning)."""
    end = {key: value.clone() for key, value in student.state_dict().items()}

    def at(share: float) -> None:
        student.load_state_dict(
            {
                key: torch.lerp(start[key], value, share) if value.is_floating_point() else value
                for key, value in end.items()
            }
        )

    rows = {}
    for share in _SHARES:
        at(share)
        rows[share] = evaluate(student)
    best = min(rows, key=lambda share: rows[share]["val_kl"])
    at(best)
    return best, rows[best]


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    # The teacher's answers are exact targets: noise in the student only keeps it from reaching them in a few epochs.
    layers = [module for module in model.modules() if isinstance(module, nn.modules.dropout._DropoutNd)]
    rates = [layer.p for layer in layers]
    for layer in layers:
        layer.p = 0.0
    try:
        yield
    finally:
        for layer, rate in zip(layers, rates, strict=True):
            layer.p = rate
