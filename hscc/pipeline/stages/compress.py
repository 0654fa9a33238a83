"""Stage compress: baseline and moments in; one cell of the sweep out, fine-tuned and exported."""

from __future__ import annotations

import copy
import json
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import safetensors.torch
import torch
from torch import nn

from hscc.api import apply, plan
from hscc.calibration.storage import load_calibration
from hscc.errors import ArtifactError, HSCCError
from hscc.export.graph.simplify import simplify_file
from hscc.export.to_onnx import write_onnx
from hscc.files import replacing
from hscc.methods import METHODS
from hscc.networks.backbones import pick_device
from hscc.networks.cost import count_macs, count_parameters
from hscc.networks.storage import ModelCard, load_dense
from hscc.pipeline import layout
from hscc.pipeline.cell_spec import CellSpec
from hscc.pipeline.data.loading import augmentation_of
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.data.unlabelled import read_unlabelled
from hscc.pipeline.params import FinetuneParams, Params
from hscc.pipeline.tasks.base import Task
from hscc.pipeline.tasks.registry import task_of
from hscc.pipeline.tracking import stage_run
from hscc.plans import Plan
from hscc.refitting.refit import refit
from hscc.storage import Origin, save
from hscc.training.augmentation import augment
from hscc.training.checkpoint import Row, identity_of
from hscc.training.finetuning import Answered, Finetuning, Known, ask, distil
from hscc.training.images import Split, to_input
from hscc.training.views import Epochs, Joined, Mixed, Views

Metrics = dict[str, str | int | float]


def run(params: Params, workspace: Path = Path("."), *, cell: CellSpec) -> None:
    """Plan, apply, refit, fine-tune, export and measure one cell.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``compress.refit`` and ``compress.finetune`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.
    cell : CellSpec
        Method, budget and seed. A cell whose budget has a latency takes the plan that the stage ``latency`` made.

    Raises
    ------
    ArtifactError
        If the baseline, the calibration or a plan is missing.
    """
    started = time.monotonic()
    protocol, task = params.data.protocol, task_of(params)
    dense, card = load_dense(workspace / layout.baseline(protocol) / "model.safetensors")
    manifest = read_manifest(workspace / layout.MANIFEST)
    train, val = task.splits(manifest, card, protocol, workspace)
    calibration = load_calibration(workspace / layout.MOMENTS)
    if cell.timed:
        made = _read_timed_plan(workspace / layout.timed_plan(cell.name), cell)
    else:
        made = plan(dense, calibration, METHODS[cell.method], cell.budget, cell.seed)
    print(made, flush=True)
    small = apply(dense, made, calibration)
    counted = _counted(small, made, card)
    target = workspace / layout.cell(cell.name)
    tags = {"protocol": protocol, "method": cell.method}
    budget = {f"budget_{resource}": ratio for resource, ratio in cell.budget.ratios.items()}
    tuning = params.compress.finetune
    fitting = {f"refit_{name}": value for name, value in params.compress.refit.model_dump().items()}
    settings = {"method": cell.method, **budget, "seed": cell.seed, **fitting, **tuning.model_dump()}
    with stage_run("compress", cell.name, settings, tags, workspace) as tracked:
        evaluate = task.agreement(dense, val)
        before = evaluate(small)

        def on_epoch(epoch: int, row: Row) -> None:
            tracked.metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch)
            print(f"{cell.name} epoch {epoch + 1}  {task.short(row)}  {time.monotonic() - started:.0f} s", flush=True)

        print(f"{cell.name} before  {task.short(before)}", flush=True)
        untrained = before
        if params.compress.refit.images:
            images = _refit_images(task, train, params, cell.seed)
            small = refit(small, dense, calibration, images, rounds=params.compress.refit.rounds).network
            untrained = evaluate(small)
            seconds = time.monotonic() - started
            print(f"{cell.name} refit, no training  {task.short(untrained)}  {seconds:.0f} s", flush=True)
        trained: Metrics = {}
        after = untrained
        if tuning.epochs:
            checkpoint = workspace / layout.CHECKPOINTS / f"compress-{cell.name}"
            views = _views(task, train, manifest, params, cell.seed, workspace)
            epochs = _epochs(workspace / layout.TEACHER_LOGITS, dense, task, views, tuning, cell.seed)
            recipe = _recipe(tuning, cell.seed)
            identity = (epochs, evaluate, recipe, small)
            tuned = distil(small, epochs, evaluate, recipe, calibration.outputs, checkpoint, on_epoch, identity)
            trained, after = {"learning_rate": tuned.learning_rate, "share": tuned.share}, tuned.after
            print(
                f"{cell.name} fine-tuned at {tuned.learning_rate:g}, {tuned.share:.0%} kept  {task.short(after)}",
                flush=True,
            )
        metrics: Metrics = {
            "cell": cell.name,
            "protocol": protocol,
            **counted,
            "predicted_loss": made.loss,
            "score": task.score,
            f"{task.column}_before": before[task.column],
            "val_kl_before": before["val_kl"],
            f"{task.column}_untrained": untrained[task.column],
            "val_kl_untrained": untrained["val_kl"],
            **trained,
            task.column: after[task.column],
            "val_kl": after["val_kl"],
        }
        _write(target, small, card, metrics)
        # Not in the file: the same cell run again gives the same bytes.
        tracked.metrics({"seconds": round(time.monotonic() - started, 1)})
        tracked.metrics({key: value for key, value in metrics.items() if isinstance(value, int | float)})


def _read_timed_plan(path: Path, cell: CellSpec) -> Plan:
    text = path.read_text(encoding="utf-8") if path.is_file() else "null"
    if json.loads(text) is None:
        raise ArtifactError(
            f"{path} holds no plan; name {cell.name} in compress.cells of params.yaml and run `hscc latency`."
        )
    return Plan.from_json(text)


def _views(
    task: Task, train: Split, manifest: pd.DataFrame, params: Params, seed: int, workspace: Path
) -> Epochs:  # fmt: skip
    """Views of the training images, and of those without labels where the parameters name some."""
    tuning, spec = params.compress.finetune, params.data
    views = task.views(train, tuning.batch_size, seed)
    if tuning.unlabelled is None:
        return views
    images = read_unlabelled(tuning.unlabelled, manifest, spec, spec.protocol, tuning.batch_size, workspace)
    print(f"fine-tuning sees {len(images):,} images without labels beside the {len(train):,} for training", flush=True)
    rows = np.arange(len(images))
    further = Split(images, rows, np.full(len(rows), -1), train.normalisation)  # nobody reads these labels
    return Joined((views, Views(further, tuning.batch_size, seed, augmentation_of(spec))), seed)


def _epochs(folder: Path, dense: nn.Module, task: Task, views: Epochs, params: FinetuneParams, seed: int) -> Epochs:
    """Ask the baseline once for all cells that are fine-tuned on the same batches, where its answers are small."""
    epochs = Mixed(views, params.mixup, seed)
    if not task.keeps_answers:
        return Answered(epochs, copy.deepcopy(dense).to(pick_device()), task.outputs)
    path = folder / f"{identity_of(dense, epochs, params.epochs, params.precision)}.safetensors"
    with suppress(FileNotFoundError, safetensors.SafetensorError):  # not there, or half of it after a crash
        return Known(epochs, safetensors.torch.load_file(path)["logits"])
    with replacing(path, shared=True) as new:  # cells that run side by side may both come here
        known = ask(dense, epochs, params.epochs, task.outputs, params.precision)
        safetensors.torch.save_file({"logits": known.answers}, new)
    return Known(epochs, safetensors.torch.load_file(path)["logits"])


def _refit_images(task: Task, train: Split, params: Params, seed: int) -> list[torch.Tensor]:
    """Network inputs, augmented: the baseline knows its training images by heart and is too sure of them."""
    images, _ = train.batch(task.sample(train, params.compress.refit.images, seed))
    augmented = augment(images, torch.Generator().manual_seed(seed), augmentation_of(params.data))
    return list(to_input(augmented, train.normalisation).split(task.batch))


def _recipe(params: FinetuneParams, seed: int) -> Finetuning:
    return Finetuning(
        epochs=params.epochs,
        learning_rates=params.learning_rates,
        trial_steps=params.trial_steps,
        mixup=params.mixup,
        temperature=params.temperature,
        patience=params.patience,
        precision=params.precision,
        seed=seed,
    )


def _counted(small: nn.Module, made: Plan, card: ModelCard) -> dict[str, int]:
    macs = count_macs(small, card.input_shape)
    allowed = int(made.dense_macs / made.budget.macs) if made.budget.macs else macs
    if macs != made.macs or macs > allowed:
        raise HSCCError(
            f"the network counts {macs:,} MACs where its plan says {made.macs:,} and the budget allows {allowed:,}; "
            "report the plan as a defect."
        )
    return {"macs": macs, "params": count_parameters(small)}


def _write(target: Path, small: nn.Module, card: ModelCard, metrics: Metrics) -> None:
    with replacing(target) as new:
        save(small, new, Origin(card.backbone, len(card.classes)))
        write_onnx(small, new / "model.onnx", card.input_shape)
        simplify_file(new / "model.onnx")
        (new / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
