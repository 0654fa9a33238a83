"""Where the time of `make repro` goes: input pipeline, training step, calibration, planning, a cell's fine-tuning.

    python -m benchmarks.pipeline           # in a folder with data/ and the artifacts of `dvc repro`; 3 to 5 minutes

Every row is one measurement in this process, so rows of one run compare; the machine should be quiet.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from hscc.api import apply, plan
from hscc.budgets.budget import Budget
from hscc.calibration.collect import Calibration, calibrate
from hscc.calibration.storage import load_calibration
from hscc.export.to_onnx import to_onnx
from hscc.methods import METHODS
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.images import load_images
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.memory import keep_freed
from hscc.pipeline.params import Params, read_params
from hscc.pipeline.stages.calibrate import balanced_sample
from hscc.pipeline.stages.train import read_splits
from hscc.training.distillation import distillation_loss, teacher_batch_logits, teacher_logits
from hscc.training.images import Split, to_input
from hscc.training.loop import Loss, Recipe, autocast, epoch_batches, steps_of
from hscc.training.supervised import cross_entropy

STEPS = 12  # timed of a training
PLANS = (("hscc", 6), ("hscc", 12), ("tucker_adaptive", 6), ("global_svd_adaptive", 6))
CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Report:
    table: Table

    @contextmanager
    def row(self, part: str, of: str, often: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.table.add_row(part, of, f"{time.perf_counter() - started:.2f}", often)


def main() -> None:
    """Print the table."""
    keep_freed()
    table = Table(title=f"make repro, part by part ({torch.get_num_threads()} threads)")
    for heading in ("part", "of", "seconds", "how often"):
        table.add_column(heading, justify="right" if heading == "seconds" else "left")
    report, params = _Report(table), read_params(layout.PARAMS)
    _decoding(report, params)
    with report.row("load the baseline", "AlexNet", "a process"):
        dense, card = load_dense(layout.baseline(params.data.protocol) / "model.safetensors")
    train, val = read_splits(read_manifest(layout.MANIFEST), card.image_size, params.data.protocol, Path("."))
    small = _compression(report, params, dense, train, card.image_size)
    _training(report, params, dense, small, train, val)
    Console(width=110).print(table)


def _decoding(report: _Report, params: Params) -> None:
    manifest = read_manifest(layout.MANIFEST)
    with tempfile.TemporaryDirectory() as folder:
        for part, often in (("decode and resize", "a workspace"), ("find them decoded", "a process")):
            with report.row(part, f"{len(manifest)} images", often):
                load_images(manifest, layout.DATA, params.data.image_size, Path(folder))


def _compression(report: _Report, params: Params, dense: nn.Module, train: Split, side: int) -> nn.Module:
    images, _ = train.batch(balanced_sample(train.labels, 64, 0))
    with report.row("calibrate", f"64 of {params.calibrate.images} images", "once"):
        calibrate(dense, [to_input(images)], params.calibrate.cells)
    with report.row("read the moments", "AlexNet", "a cell"):
        calibration: Calibration = load_calibration(layout.MOMENTS)
    for name, ratio in PLANS:
        with report.row(f"plan {name} at {ratio}x", "AlexNet", "a cell, from what this process planned before"):
            made = plan(dense, calibration, METHODS[name], Budget(ratio))
    small = apply(dense, made)
    with report.row("export to ONNX", f"AlexNet at {made.budget}", "a cell"):
        to_onnx(small, (3, side, side))
    return small


def _training(report: _Report, params: Params, dense: nn.Module, small: nn.Module, train: Split, val: Split) -> None:
    recipe = Recipe(
        epochs=1, batch_size=params.train.batch_size, learning_rate=1e-6, weight_decay=0.0, patience=1, seed=0,
        select="val_kl", select_lower=True, precision=params.train.precision,
    )  # fmt: skip
    part = f"{STEPS} of {steps_of(train, recipe)} steps, batch {recipe.batch_size}"
    few = replace(train, rows=train.rows[: STEPS * recipe.batch_size], labels=train.labels[: STEPS * recipe.batch_size])
    with report.row("draw views of the images", part, "an epoch"):
        batches = list(epoch_batches(few, recipe, 0, CPU))
    with report.row("the baseline's logits", f"{len(val)} validation images", "a cell"):
        teacher_logits(dense, val)
    with report.row("the baseline's lessons", part, "an epoch of the first cell of a seed"):
        lessons = teacher_batch_logits(dense, few, recipe)
    with report.row("fine-tune", part, "an epoch of a cell"):
        _learn(small, partial(distillation_loss, teacher=lessons, temperature=2.0), batches, recipe.precision)
    with report.row("train", part, "an epoch of a baseline"):
        _learn(dense, partial(cross_entropy, label_smoothing=0.05), batches, recipe.precision)


def _learn(model: nn.Module, loss: Loss, batches: list[tuple[torch.Tensor, torch.Tensor]], precision: str) -> None:
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    for step, (inputs, labels) in enumerate(batches):
        with autocast(precision, CPU):
            value, _ = loss(model, inputs, labels, (0, step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
