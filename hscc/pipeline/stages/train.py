"""Stage train: manifest and images in; the dense baseline of one split protocol out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
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
from hscc.pipeline.data.loading import augmentation_of, normalisation_of, read_splits
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params, TrainParams
from hscc.pipeline.tracking import stage_run
from hscc.training.checkpoint import Row
from hscc.training.images import Split
from hscc.training.loop import Recipe
from hscc.training.supervised import score, train_baseline
from hscc.training.views import Views


def run(params: Params, workspace: Path = Path("."), *, protocol: str) -> None:
    """Train, resuming a killed run, and write weights, ONNX, history and metrics.

    With ``train.epochs`` 0 the network of ``train.weights`` is evaluated as it is.

    Parameters
    ----------
    params : Params
        Sections ``data`` and ``train`` are used.
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
    train, val = read_splits(manifest, card, protocol, workspace)
    model, pretrained = _new_model(params, workspace)
    name = f"{params.train.backbone}-{protocol}"
    tags = {"protocol": protocol}
    with stage_run("train", name, params.train.model_dump(), tags, workspace) as tracked:

        def on_epoch(epoch: int, row: Row) -> None:
            tracked.metrics({key: value for key, value in row.items() if key != "epoch"}, step=epoch)
            print(
                f"{name} epoch {epoch + 1:>3}/{max(params.train.epochs, 1)}  "
                f"train {row['train_loss']:.3f} / {row['train_accuracy']:.1%}  "
                f"val {row['val_loss']:.3f} / {row['val_accuracy']:.1%}  {time.monotonic() - started:.0f} s",
                flush=True,
            )

        checkpoint = workspace / layout.CHECKPOINTS / f"train-{protocol}"
        smoothing = params.train.label_smoothing
        views = Views(
            train,
            params.train.batch_size,
            params.train.seed,
            augmentation_of(params.data),
            sizes=params.train.sizes,
            epochs=params.train.epochs,
        )
        recipe = _recipe(params.train, views.settled)
        if params.train.epochs:
            history = train_baseline(model, views, val, recipe, smoothing, checkpoint, on_epoch)
        else:  # the network as it came
            history = [_as_it_is(partial(score, model), train, val)]
            on_epoch(0, history[0])
        best = max(history, key=lambda row: row["val_accuracy"])
        cost = {"macs": count_macs(model, card.input_shape), "params": count_parameters(model)}
        metrics = {
            "backbone": params.train.backbone,
            "pretrained": pretrained,
            "protocol": protocol,
            "seed": params.train.seed,
            **cost,
            "val_accuracy": best["val_accuracy"],
            "val_loss": best["val_loss"],
            "best_epoch": int(best["epoch"]),
            "epochs": len(history),
            "train_images": len(train),
            "val_images": len(val),
        }
        _write(workspace, protocol, model, card, history, metrics)
        tracked.metrics({"best_val_accuracy": best["val_accuracy"], **cost})


def _recipe(params: TrainParams, settled: int) -> Recipe:
    return Recipe(
        epochs=params.epochs,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        patience=params.patience,
        seed=params.seed,
        select="val_accuracy",
        select_lower=False,
        precision=params.precision,
        warm_up=params.warm_up,
        settled=settled,
    )


def _as_it_is(evaluate: Callable[[Split], Row], train: Split, val: Split) -> Row:
    """Row of the history for a network that is not trained: its figures on training images in place of an epoch's."""
    own = {name.replace("val_", "train_"): value for name, value in evaluate(train).items()}
    return {"epoch": 0, "learning_rate": 0.0, **own, **evaluate(val)}


def _new_model(params: Params, workspace: Path) -> tuple[nn.Module, bool]:
    torch.manual_seed(params.train.seed)
    name, weights = params.train.backbone, params.train.weights_file
    model = build(name, len(params.data.classes))
    check_answer(model, name, params.data.input_shape, (len(params.data.classes),))
    if weights is not None:
        load_weights(model, workspace / weights)
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
