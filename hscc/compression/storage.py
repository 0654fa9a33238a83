"""Compressed networks on disk: ``model.safetensors`` and ``plan.json`` in a folder, never a pickle."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from hscc.compression.api import apply
from hscc.compression.plan import Plan
from hscc.errors import ArtifactError
from hscc.models.backbones import build

WEIGHTS = "model.safetensors"
PLAN = "plan.json"


@dataclass(frozen=True)
class Origin:
    """What the compressed network was made from, for rebuilding it by name.

    Attributes
    ----------
    backbone : str
        Name in the registry of backbones; empty for a network of the user's own.
    classes : int
        Number of outputs.
    """

    backbone: str = ""
    classes: int = 0


def save(model: nn.Module, plan: Plan, folder: Path, origin: Origin | None = None) -> None:
    """Write a compressed network into a folder.

    Parameters
    ----------
    model : nn.Module
        From `hscc.compression.api.apply`, fine-tuned or not.
    plan : Plan
        The plan it was made with.
    folder : Path
        Made if absent.
    origin : Origin, optional
        Lets `load` rebuild a backbone of the registry without the caller's help.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    partial = folder / f"{WEIGHTS}.partial"
    safetensors.torch.save_file(weights, partial, {"origin": json.dumps(asdict(origin or Origin()))})
    os.replace(partial, folder / WEIGHTS)
    (folder / PLAN).write_text(plan.to_json(), encoding="utf-8")


def load(folder: Path, model: nn.Module | None = None) -> nn.Module:
    """Read a compressed network.

    Parameters
    ----------
    folder : Path
        Written by `save`.
    model : nn.Module, optional
        The dense network (its weights do not matter), for networks that are not in the registry of backbones.

    Raises
    ------
    ArtifactError
        If a file is missing, damaged or does not fit the network.
    """
    path = folder / WEIGHTS
    if not path.is_file() or not (folder / PLAN).is_file():
        raise ArtifactError(f"{folder} holds no compressed network ({WEIGHTS} and {PLAN}); run `hscc compress` first.")
    plan = Plan.from_json((folder / PLAN).read_text(encoding="utf-8"))
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            origin = Origin(**json.loads((file.metadata() or {}).get("origin", "{}")))
        if model is None:
            if not origin.backbone:
                raise ArtifactError(f"{folder} is a network of your own; pass the dense one: load(folder, model).")
            model = build(origin.backbone, origin.classes)
        small = apply(model, plan)
        small.load_state_dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, RuntimeError, TypeError) as error:
        raise ArtifactError(f"{path} does not fit its plan ({error}); compress again.") from error
    return small.eval()
