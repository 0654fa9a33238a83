"""What each part of the fine-tuning recipe brings, by method and budget.

    python -m benchmarks.finetuning --names tucker_adaptive,hscc --budgets 6,12,24

Uses the outputs of the stages train and calibrate of the workspace it runs in. It refits and trains on training images;
the figures are of the validation split, which also decides rates, epochs and shares. The test split stays unread.
"""

from __future__ import annotations

import copy
import tempfile
import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import hscc
from benchmarks.common import new_table
from benchmarks.engine import Budgets, Methods
from benchmarks.refit import RefitWorkspace
from hscc.budgets.latency_table import this_machine
from hscc.outputs import Outputs
from hscc.pipeline.memory import keep_freed
from hscc.pipeline.names import method_label
from hscc.pipeline.params import read_params
from hscc.timing.runtimes import ONNXRUNTIME
from hscc.training.agreement import agreement
from hscc.training.checkpoint import Row
from hscc.training.finetuning import Finetuned, Finetuning, Known, ask, distil, distillation_loss
from hscc.training.loop import Recipe, fit
from hscc.training.views import Mixed, Step, Views

_CLASSES = Outputs("classes")
_DECAY = 0.98  # of the averaged weights


@dataclass
class _Space(RefitWorkspace):
    """A workspace with batches whose dense answers are known."""

    epochs: int = 4
    batch_size: int = 32
    precision: str = "bf16"

    def known(self, mixup: float) -> Known:
        return self._mixed if mixup else self._plain

    @cached_property
    def _plain(self) -> Known:
        return self._ask(0.0)

    @cached_property
    def _mixed(self) -> Known:
        return self._ask(1.0)

    def _ask(self, mixup: float) -> Known:
        epochs = Mixed(Views(self.training_split, self.batch_size, 0), mixup, 0)
        return ask(self.dense, epochs, self.epochs, _CLASSES, self.precision)

    def tuned(self, small: nn.Module, recipe: Finetuning) -> Finetuned:
        evaluate = partial(agreement, targets=self.targets, split=self.validation)
        with tempfile.TemporaryDirectory() as folder:
            known = self.known(recipe.mixup)
            student = copy.deepcopy(small)
            return distil(student, known, evaluate, recipe, _CLASSES, Path(folder, "run"), lambda *_: None, (1,))

    def averaged(self, small: nn.Module, recipe: Finetuning, rate: float) -> nn.Module:
        """Exponential moving average of the weights of one run."""
        student = copy.deepcopy(small)
        average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(_DECAY))

        def loss(network: nn.Module, step: Step) -> tuple[torch.Tensor, Row]:
            average.update_parameters(network)
            return distillation_loss(network, step, output=_CLASSES, temperature=recipe.temperature)

        settings = Recipe(recipe.epochs, rate, 0.0, recipe.epochs, 0, "train_loss", True, recipe.precision)
        with tempfile.TemporaryDirectory() as folder:
            fit(
                student,
                loss,
                lambda _: {},
                self.known(recipe.mixup),
                settings,
                Path(folder, "run"),
                lambda *_: None,
                (1,),
            )
        return average.module.eval()


def main(
    names: Methods = "tucker_adaptive,hscc",
    budgets: Budgets = "6,12,24",
    images: Annotated[int, typer.Option(help="Training images to refit on.")] = 512,
    epochs: Annotated[int, typer.Option(help="Of fine-tuning.")] = 4,
) -> None:
    """Print the table."""
    keep_freed()
    params = read_params()
    precision = params.compress.finetune.precision
    space = _Space(params.data.protocol, images, True, epochs=epochs, precision=precision)
    full = Finetuning(epochs=epochs, patience=epochs, precision=precision)
    title = (
        f"{space.protocol} protocol, {len(space.validation)} validation images, seed 0, refit on {images} training "
        f"images, {epochs} epochs; dense accuracy {space.figures(space.dense)[1]} %; {this_machine(ONNXRUNTIME)}"
    )
    table = new_table(title, "method, recipe", "budget, KL to dense, accuracy %, rate, share, seconds")
    for ratio in map(float, budgets.split(",")):
        for name in names.split(","):
            raw = hscc.apply(space.dense, space.plan(name, ratio)).eval()
            small = hscc.refit(raw, space.dense, space.calibration, space.training).network
            table.add_section()
            table.add_row(method_label(name), "no refit, no training", f"{ratio:g}x", *space.figures(raw), "", "", "")
            table.add_row("", "refit, no training", "", *space.figures(small), "", "", "")
            rate = 1e-4
            for label, start, recipe in _recipes(full, raw, small):
                began = time.monotonic()
                tuned = space.tuned(start, recipe)
                spent = f"{time.monotonic() - began:.0f}"
                row = (f"{tuned.learning_rate:g}", f"{tuned.share:g}", spent)
                table.add_row("", label, "", *space.figures(tuned.network), *row)
                Console(stderr=True).print(name, ratio, label, *space.figures(tuned.network), *row)
                rate = tuned.learning_rate if recipe is full and start is small else rate
            average = space.averaged(small, full, rate)
            table.add_row("", "all, averaged weights", "", *space.figures(average), f"{rate:g}", "1", "")
    Console(width=150).print(table)


def _recipes(full: Finetuning, raw: nn.Module, small: nn.Module) -> list[tuple[str, nn.Module, Finetuning]]:
    return [
        ("rate 1e-4", raw, replace(full, learning_rates=(1e-4,), mixup=0.0)),
        ("rate 1e-4, refit", small, replace(full, learning_rates=(1e-4,), mixup=0.0)),
        ("rate 1e-4, refit, mixup", small, replace(full, learning_rates=(1e-4,))),
        ("rate by trials, refit", small, replace(full, mixup=0.0)),
        ("all: rate by trials, refit, mixup", small, full),
        ("all without refit", raw, full),
        ("all, temperature 1", small, replace(full, temperature=1.0)),
        ("all, temperature 8", small, replace(full, temperature=8.0)),
    ]


if __name__ == "__main__":
    typer.run(main)
