"""Where the time of `make repro` goes: images, training, calibration, planning, fine-tuning.

    python -m benchmarks.pipeline_profile      # in a folder with data/ and the artifacts of `dvc repro`

Each row is one measurement of this process. Nothing else should run meanwhile.
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

import hscc
from benchmarks.common import new_table
from hscc.budgets.latency_table import this_machine
from hscc.calibration.storage import load_calibration
from hscc.export.to_onnx import to_onnx
from hscc.networks.storage import load_dense
from hscc.outputs import Outputs
from hscc.pipeline import layout
from hscc.pipeline.data.images import load_images
from hscc.pipeline.data.loading import balanced_sample, read_splits
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.memory import keep_freed
from hscc.pipeline.params import Params, read_params
from hscc.timing.runtimes import ONNXRUNTIME
from hscc.training.agreement import split_logits
from hscc.training.finetuning import answers, distillation_loss
from hscc.training.images import Split, to_input
from hscc.training.loop import Loss, autocast
from hscc.training.supervised import cross_entropy
from hscc.training.views import Step, Views

STEPS = 12  # timed
# The second budget of a method finds its spectra; each first one here is of a calibration just read.
PLANS = (("hscc", (6, 12)), ("tucker_adaptive", (6,)), ("global_svd_adaptive", (6,)), ("global_svd", (6,)))
CPU = torch.device("cpu")


def _flags() -> list[str]:
    """Instruction sets of this processor that decide the times, of those that Linux names."""
    source = Path("/proc/cpuinfo")
    lines = source.read_text(encoding="utf-8").splitlines() if source.is_file() else []
    found = {flag for line in lines if line.startswith("flags") for flag in line.split(":", 1)[1].split()}
    return [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile") if flag in found]


@dataclass(frozen=True)
class _Profile:
    table: Table

    @contextmanager
    def row(self, part: str, amount: str, frequency: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.table.add_row(part, amount, frequency, f"{time.perf_counter() - started:.2f}")


def main() -> None:
    """Print the table."""
    keep_freed()
    threads = torch.get_num_threads()
    title = f"Parts of make repro: {this_machine(ONNXRUNTIME)}, {threads} threads; {', '.join(_flags())}"
    table = new_table(title, "part, amount, how often", "seconds")
    profile, params = _Profile(table), read_params(layout.PARAMS)
    _images(profile, params)
    with profile.row("load the baseline", params.train.backbone, "per process"):
        dense, card = load_dense(layout.baseline(params.data.protocol) / "model.safetensors")
    train, val = read_splits(read_manifest(layout.MANIFEST), card, params.data.protocol, Path("."))
    small = _compression(profile, params, dense, train, card.image_size)
    _training(profile, params, dense, small, train, val)
    Console(width=120).print(table)


def _images(profile: _Profile, params: Params) -> None:
    manifest = read_manifest(layout.MANIFEST)
    with tempfile.TemporaryDirectory() as folder:
        for part, frequency in (("decode and resize", "per workspace"), ("open the decoded images", "per process")):
            with profile.row(part, f"{len(manifest)} images", frequency):
                load_images(manifest, layout.DATA, params.data.image_size, Path(folder))


def _compression(profile: _Profile, params: Params, dense: nn.Module, train: Split, side: int) -> nn.Module:
    backbone = params.train.backbone
    images, _ = train.batch(balanced_sample(train.labels, 64, 0))
    with profile.row("calibrate", f"64 of {params.calibrate.images} images", "once"):
        hscc.calibrate(dense, [to_input(images)], params.calibrate.cells)
    with profile.row("read the moments", backbone, "per cell"):
        calibration = load_calibration(layout.MOMENTS)
    plans = {}
    for name, ratios in PLANS:
        calibration.cache.forget_spectra()
        for ratio in ratios:
            with profile.row(f"plan {name} at {ratio}x", backbone, "per cell" if ratio == ratios[0] else "per process"):
                plans[name] = hscc.plan(dense, calibration, hscc.METHODS[name], hscc.Budget(ratio))
    plan = plans["hscc"]
    small = hscc.apply(dense, plan)
    refitting = to_input(train.batch(balanced_sample(train.labels, params.compress.refit.images, 0))[0]).split(32)
    with profile.row(f"refit hscc at {plan.budget}", f"{params.compress.refit.images} images", "per cell"):
        hscc.refit(small, dense, calibration, refitting)
    with profile.row("export to ONNX", f"{backbone} at {plan.budget}", "per cell"):
        to_onnx(small, (3, side, side))
    return small


def _training(profile: _Profile, params: Params, dense: nn.Module, small: nn.Module, train: Split, val: Split) -> None:
    size, output = params.train.batch_size, Outputs("classes")
    steps = f"{STEPS} of {Views(train, size, 0).steps} steps, batch {size}"
    few = replace(train, rows=train.rows[: STEPS * size], labels=train.labels[: STEPS * size])
    with profile.row("augment the images", steps, "per epoch"):
        batches = list(Views(few, size, 0)(0))
    with profile.row("the baseline's logits", f"{len(val)} validation images", "per cell"):
        split_logits(dense, val)
    with profile.row("a compressed network's logits", f"{len(val)} validation images", "ten times per cell"):
        split_logits(small, val)
    with profile.row("the baseline's answers", steps, "per epoch of a seed's first cell"):
        known = [(inputs, answers(dense, [inputs], output)) for inputs, _ in batches]
    precision = params.train.precision
    with profile.row("fine-tune", steps, "per epoch of a cell"):
        _learn(small, partial(distillation_loss, output=output, temperature=2.0), known, precision)
    with profile.row("train", steps, "per epoch of a baseline"):
        _learn(dense, partial(cross_entropy, label_smoothing=0.05), batches, precision)


def _learn(model: nn.Module, loss: Loss, batches: list[Step], precision: str) -> None:
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    for batch in batches:
        with autocast(precision, CPU):
            value, _ = loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        optimizer.step()


if __name__ == "__main__":
    main()
