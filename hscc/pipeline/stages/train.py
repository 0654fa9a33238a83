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
from hscc.pipeline import layout
from hscc.pipeline.data.loading import normalisation_of
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params, TrainParams
from hscc.pipeline.tasks.registry import task_of
from hscc.pipeline.tracking import stage_run
from hscc.training.checkpoint import Row
from hscc.training.loop import Recipe, fit


def run(params: Params, workspace: Path = Path("."), *, protocol: str) -> None:
    """Train, resuming a killed run, and write weights, ONNX, history and metrics.

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
    )
    task = task_of(params)
    train, val = task.splits(manifest, card, protocol, workspace)
    model, pretrained = _new_model(params)
    name = f"{params.train.backbone}-{protocol}"
    tags = {"protocol": protocol}
    with stage_run("train", name, params.train.model_dump(), tags, workspace) as tracked:

        def on_epoch(epoch: int, row: Row) -> None:
            tracked.metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch)
            print(
                f"{name} epoch {epoch + 1:>3}/{params.train.epochs}  "
                f"train loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}  {task.short(row)}  "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )

        checkpoint = workspace / layout.CHECKPOINTS / f"train-{protocol}"
        views = task.training(train)
        recipe = _recipe(params.train, views.settled, task.column)
        history = fit(model, task.loss(), task.scores(val), views, recipe, checkpoint, on_epoch)
        best = max(history, key=lambda row: row[task.column])
        size = card.image_size
        cost = {"macs": count_macs(model, (3, size, size)), "params": count_parameters(model)}
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


def _new_model(params: Params) -> tuple[nn.Module, bool]:
    torch.manual_seed(params.train.seed)
    model = build(params.train.backbone, len(params.data.classes))
    initialise(model)
    return model, params.train.weights == "imagenet" and load_imagenet(model, params.train.backbone)


def _write(
    workspace: Path, protocol: str, model: nn.Module, card: ModelCard, history: list[Row], metrics: dict[str, object]
) -> None:
    folder = workspace / layout.baseline(protocol)
    save_dense(model, card, folder / "model.safetensors")
    write_onnx(model, folder / "model.onnx", (3, card.image_size, card.image_size))
    text = json.dumps(metrics, indent=2) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    target = workspace / layout.train_metrics(protocol)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    pd.DataFrame(history).to_csv(workspace / layout.train_history(protocol), index=False, float_format="%.6f")
