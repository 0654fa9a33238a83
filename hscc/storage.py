"""Compressed networks on disk: ``model.safetensors`` and ``plan.json`` in a folder, never a pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from hscc.api import assemble
from hscc.errors import ArtifactError, CompressionError, first_line
from hscc.files import replace_text
from hscc.networks.backbones import TORCHVISION, build
from hscc.networks.cost import count_parameters
from hscc.networks.weights import write_tensors
from hscc.plans import Plan
from hscc.structures.dense import DENSE

WEIGHTS = "model.safetensors"
PLAN = "plan.json"


@dataclass(frozen=True)
class Origin:
    """What the compressed network was made from, for rebuilding it by name.

    Attributes
    ----------
    backbone : str
        Name in the registry of backbones; empty for any other network.
    classes : int
        Number of outputs.
    """

    backbone: str = ""
    classes: int = 0


def save(model: nn.Module, folder: Path | str, origin: Origin | None = None) -> None:
    """Write a compressed network into a folder.

    Parameters
    ----------
    model : nn.Module
        From `hscc.apply` or `hscc.compress`, fine-tuned or not.
    folder : Path
        Made if absent.
    origin : Origin, optional
        Lets `load` rebuild a backbone of the registry. By default one of torchvision's that the registry names is
        recognised.

    Raises
    ------
    CompressionError
        If the network was not compressed by this library.
    """
    plan = getattr(model, "hscc_plan", None)
    if not isinstance(plan, Plan):
        raise CompressionError(f"{type(model).__name__} has no plan; save what hscc.apply or hscc.compress returns.")
    folder = Path(folder)
    header = {"origin": json.dumps(asdict(origin or _recognise(model, plan)))}
    write_tensors(model.state_dict(), folder / WEIGHTS, header)
    replace_text(folder / PLAN, plan.to_json())


def load(folder: Path | str, model: nn.Module | None = None) -> nn.Module:
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
    folder = Path(folder)
    path = folder / WEIGHTS
    if not path.is_file() or not (folder / PLAN).is_file():
        raise ArtifactError(f"{folder} holds no compressed network ({WEIGHTS} and {PLAN}); run `hscc compress` first.")
    plan = Plan.from_json((folder / PLAN).read_text(encoding="utf-8"))
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            origin = Origin(**json.loads((file.metadata() or {}).get("origin", "{}")))
        tensors = safetensors.torch.load_file(path)
        if model is None:
            if not origin.backbone:
                raise ArtifactError(f"{folder} is a network of your own; pass the dense one: load(folder, model).")
            kept = next(tensor.dtype for tensor in tensors.values() if tensor.is_floating_point())
            model = build(origin.backbone, origin.classes).to(kept)
        small = assemble(model, plan)
        small.load_state_dict(tensors)
    except (safetensors.SafetensorError, RuntimeError, TypeError, AttributeError, AssertionError) as error:
        raise ArtifactError(
            f"{path} does not fit its plan or the dense network that was passed ({first_line(error)}); pass the dense "
            "network, or compress again."
        ) from error
    return small.eval()


def _recognise(model: nn.Module, plan: Plan) -> Origin:
    """Name one of torchvision's networks by its type, its number of parameters and the layers of the plan."""
    if not type(model).__module__.startswith("torchvision."):
        return Origin()
    last = list(model.state_dict().values())[-1]  # bias of the last layer, dense or factored
    if not last.ndim:
        return Origin()
    classes = int(last.shape[0])
    for name in TORCHVISION:
        with torch.device("meta"):
            dense = build(name, classes)
        alike = type(dense) is type(model) and count_parameters(dense) == plan.dense_params
        if alike and _has_layers(dense, plan) and _is_same_elsewhere(model, dense, plan):
            return Origin(name, classes)
    return Origin()


def _has_layers(dense: nn.Module, plan: Plan) -> bool:
    shapes = {name: parameter.shape for name, parameter in dense.named_parameters()}
    found = [(shapes.get(f"{entry.layer.name}.weight"), entry.layer) for entry in plan.layers]
    return all(shape is not None and shape.numel() == layer.weights for shape, layer in found)


def _is_same_elsewhere(model: nn.Module, dense: nn.Module, plan: Plan) -> bool:
    """Whether all that the plan left alone has the named network's kinds and settings: a user may have changed some."""
    replaced = {entry.layer.name for entry in plan.layers if entry.structure != DENSE}
    own = dict(model.named_modules(remove_duplicate=False))
    for name, module in dense.named_modules(remove_duplicate=False):
        found = own.get(name)
        if name in replaced or (isinstance(module, nn.modules.batchnorm._BatchNorm) and isinstance(found, nn.Identity)):
            continue
        if found is None or type(found) is not type(module):
            return False
        first, second = (part.extra_repr().replace(", bias=False", "") for part in (found, module))  # folded: a bias
        if first != second:
            return False
    return True
