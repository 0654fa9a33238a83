"""Stage train: manifest and images in; the dense baseline of one split protocol out."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from hscc.export.to_onnx import write_onnx
from hscc.networks.backbones import build, initialise, load_imagenet
from hscc.networks.cost import count_macs, count_parameters
from hscc.networks.storage import ModelCard, save_dense
from hscc.networks.weights import check_answer, load_weights
from hscc.pipeline import layout
from hscc.pipeline.data.loading import normalisation_of
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params, TrainParams
from hscc.pipeline.tasks.base import Task
from hscc.pipeline.tasks.registry import task_of
from hscc.pipeline.tracking import stage_run
from hscc.pipeline.tracking.weights import weights_file
from hscc.training.checkpoint import Row
from hscc.training.images import Split
from hscc.training.loop import Recipe, fit


def run(params: Params, workspace: Path = Path("."), *, protocol: str) -> None:
    """Train, resuming a killed run, and write weights, ONNX, history and metrics.

    With ``train.epochs`` 0 the network of ``train.weights`` is evaluated as it is.

    Parameters
    ----------
    params : Params
        Sections ``data`` and ``train`` and ``evaluate.score`` are used.
    workspace : Path
        Folder of ``dvc.yaml``.
    protocol : str
        Split protocol to train on.
    """
    started = time.monotonic()
    manifest = read_manifest(workspace / layout.MANIFEST)
    card = ModelCard(
        backbone=params.train.backbone,
        classes=params.data.classes,
        image_size=params.data.image_size,
        protocol=protocol,
        seed=params.train.seed,
        channels=params.data.channels,
        normalisation=normalisation_of(params.data),
        window=params.data.window,
    )
    task = task_of(params)
    train, val = task.splits(manifest, card, protocol, workspace)
    model, pretrained = _new_model(params, task, workspace)
    name = f"{params.train.backbone}-{protocol}"
    tags = {"protocol": protocol}
    with stage_run("train", name, params.train.model_dump(), tags, workspace) as tracked:

        def on_epoch(epoch: int, row: Row) -> None:
            tracked.metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch)
            print(
                f"{name} epoch {epoch + 1:>3}/{max(params.train.epochs, 1)}  "
                f"train loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}  {task.short(row)}  "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )

        checkpoint = workspace / layout.CHECKPOINTS / f"train-{protocol}"
        views = task.training(train)
        recipe = _recipe(params.train, views.settled, task.column)
        if params.train.epochs:
            learner = task.learner(model, train)
            history = fit(learner, task.loss(train), task.scores(val), views, recipe, checkpoint, on_epoch)
            model = task.learnt(learner)
        else:  # the network as it came
            history = [_as_it_is(model, task, train, val)]
            on_epoch(0, history[0])
        best = max(history, key=lambda row: row[task.column])
        cost = {"macs": count_macs(model, card.input_shape), "params": count_parameters(model)}
        metrics = {
            "backbone": params.train.backbone,
            "pretrained": pretrained,
            "protocol": protocol,
            "seed": params.train.seed,
            **cost,
            "score": task.score,
            task.column: best[task.column],
            "val_loss": best["val_loss"],
            "best_epoch": int(best["epoch"]),
            "epochs": len(history),
            "train_images": len(train),
            "val_images": len(val),
        }
        _write(workspace, protocol, model, card, history, metrics)
        tracked.metrics({f"best_{task.column}": best[task.column], **cost})


def _recipe(params: TrainParams, settled: int, select: str) -> Recipe:
    return Recipe(
        epochs=params.epochs,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        patience=params.patience,
        seed=params.seed,
        select=select,
        select_lower=False,
        precision=params.precision,
        warm_up=params.warm_up,
        settled=settled,
    )


def _as_it_is(model: nn.Module, task: Task, train: Split, val: Split) -> Row:
    """Row of the history for a network that is not trained: its figures on training images in place of an epoch's."""
    own = {name.replace("val_", "train_"): value for name, value in task.scores(train)(model).items()}
    return {"epoch": 0, "learning_rate": 0.0, **own, **task.scores(val)(model)}


def _new_model(params: Params, task: Task, workspace: Path) -> tuple[nn.Module, bool]:
    torch.manual_seed(params.train.seed)
    name, weights = params.train.backbone, params.train.given_weights
    model = build(name, len(params.data.classes))
    check_answer(model, name, params.data.input_shape, task.answer_shape)
    if weights is not None:
        load_weights(model, weights_file(weights, workspace))
        return model, True
    if ":" not in name:  # a network of the user's own starts as its builder made it
        initialise(model)
    return model, params.train.weights == "imagenet" and load_imagenet(model, params.train.backbone)


def _write(
    workspace: Path, protocol: str, model: nn.Module, card: ModelCard, history: list[Row], metrics: dict[str, object]
) -> None:
    folder = workspace / layout.baseline(protocol)
    save_dense(model, card, folder / "model.safetensors")
    write_onnx(model, folder / "model.onnx", card.input_shape)
    text = json.dumps(metrics, indent=2) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    target = workspace / layout.train_metrics(protocol)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    pd.DataFrame(history).to_csv(workspace / layout.train_history(protocol), index=False, float_format="%.6f")
