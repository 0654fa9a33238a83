"""What a refit without labels or gradients brings, before any fine-tuning.

    python -m benchmarks.refit --names tucker_adaptive,hscc --budgets 6,12

Uses the outputs of the stages train and calibrate of the workspace it runs in. It refits on training images; the
figures are of the validation split, and the test split stays unread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import nn

import hscc
from benchmarks.common import new_table
from benchmarks.engine import Budgets, Methods, Workspace
from hscc.budgets.latency_table import this_machine
from hscc.pipeline.names import method_label
from hscc.pipeline.params import read_params
from hscc.timing.runtimes import ONNXRUNTIME
from hscc.training.agreement import split_logits
from hscc.training.augmentation import augment
from hscc.training.images import to_input

_AUGMENTATION_SEED = 7


@dataclass
class RefitWorkspace(Workspace):
    """A workspace with training images to refit on."""

    images: int
    augmented: bool
    seed: int = 0

    @cached_property
    def training(self) -> list[torch.Tensor]:
        """Network inputs of the training split, balanced over the classes."""
        images = self.training_images(self.images, self.seed)
        if self.augmented:
            images = augment(images, torch.Generator().manual_seed(_AUGMENTATION_SEED))
        return list(to_input(images).split(32))

    def figures(self, network: nn.Module) -> tuple[str, str]:
        """KL divergence and accuracy on the validation split with their standard errors."""
        mean, error = self.divergence(network)
        right = (split_logits(network, self.validation).argmax(1) == torch.from_numpy(self.validation.labels)).float()
        spread = float(right.std()) / len(right) ** 0.5
        return f"{mean:.4f} ± {error:.4f}", f"{100 * float(right.mean()):.1f} ± {100 * spread:.1f}"


def main(
    names: Methods = "tucker_adaptive,hscc,global_svd_adaptive,hscc_direct",
    budgets: Budgets = "6,12",
    images: Annotated[int, typer.Option(help="Training images to refit on; a quarter is held out.")] = 512,
    rounds: Annotated[int, typer.Option(help="Passes over the layers with all factors.")] = 1,
    ridge: Annotated[float, typer.Option(help="Damping towards the dense weights.")] = 1e-2,
    augmented: Annotated[bool, typer.Option(help="Whether to augment the training images.")] = True,
) -> None:
    """Print the table."""
    space = RefitWorkspace(read_params().data.protocol, images, augmented)
    accuracy = space.figures(space.dense)[1]
    title = (
        f"{space.protocol} protocol, {len(space.validation)} validation images, {images} training images, seed 0, "
        f"{rounds} rounds, ridge {ridge:g}; dense accuracy {accuracy} %; {this_machine(ONNXRUNTIME)}"
    )
    table = new_table(title, "method, refit", "budget, KL to dense, accuracy %, seconds")
    for ratio in map(float, budgets.split(",")):
        for name in names.split(","):
            small = hscc.apply(space.dense, space.plan(name, ratio)).eval()
            table.add_section()
            table.add_row(method_label(name), "none", f"{ratio:g}x", *space.figures(small), "")
            for label, passes in (("decoders", 0), ("all factors", rounds)):
                started = time.monotonic()
                made = hscc.refit(small, space.dense, space.calibration, space.training, rounds=passes, ridge=ridge)
                seconds = f"{time.monotonic() - started:.0f}"
                table.add_row("", label, "", *space.figures(made.network), seconds)
            Console(stderr=True).print(f"{name} at {ratio:g}x: done")
    Console(width=130).print(table)


if __name__ == "__main__":
    typer.run(main)
