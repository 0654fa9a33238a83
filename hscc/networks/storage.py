"""Dense networks on disk: safetensors with a JSON header, never a pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from hscc.errors import ArtifactError
from hscc.networks.backbones import build
from hscc.networks.image_size import sides_of
from hscc.networks.normalisation import IMAGENET, Normalisation
from hscc.networks.weights import write_tensors


@dataclass(frozen=True)
class ModelCard:
    """What is needed to rebuild a network and to know where it came from.

    Attributes
    ----------
    backbone : str
        Name in the registry of backbones.
    classes : tuple of str
        Names of the outputs, in order.
    image_size : int or tuple of int
        Pixels a side of a square input; height and width; or depth, height and width of a volume.
    protocol : str
        Split protocol it was trained on.
    seed : int
        Seed of its training.
    channels : int
        Of the images: 1 for grey, or 3.
    normalisation : Normalisation
        Of the network's inputs, which have as many channels as it has numbers: one number for grey images as they
        are, three for grey images three times or for colours.
    window : (float, float) or None
        Values of the images that become black and white, where they are not levels already.
    """

    backbone: str
    classes: tuple[str, ...]
    image_size: int | tuple[int, ...]
    protocol: str
    seed: int
    channels: int = 1
    normalisation: Normalisation = IMAGENET
    window: tuple[float, float] | None = None
    format: str = field(default="hscc-dense-1")

    @property
    def sides(self) -> tuple[int, ...]:
        """Size of an image: height and width, or depth, height and width."""
        return sides_of(self.image_size)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input of the network: channels, then `sides`."""
        return (self.normalisation.channels, *self.sides)


def save_dense(model: nn.Module, card: ModelCard, path: Path) -> None:
    """Write weights and card to one safetensors file, atomically."""
    header = {
        "backbone": card.backbone,
        "classes": ",".join(card.classes),
        "image_size": json.dumps(card.image_size),
        "protocol": card.protocol,
        "seed": str(card.seed),
        "channels": str(card.channels),
        "mean": json.dumps(card.normalisation.mean),
        "std": json.dumps(card.normalisation.std),
        **({} if card.window is None else {"window": json.dumps(card.window)}),
        "format": card.format,
    }
    write_tensors(model.state_dict(), path, header)


def load_dense(path: Path) -> tuple[nn.Module, ModelCard]:
    """Read a network written by `save_dense`, on the CPU in evaluation mode.

    Raises
    ------
    ArtifactError
        If the file is missing, is not safetensors, or was not written by `save_dense`.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; run `hscc train` first.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        card = ModelCard(
            backbone=header["backbone"],
            classes=tuple(header["classes"].split(",")),
            image_size=_image_size(header["image_size"]),
            protocol=header["protocol"],
            seed=int(header["seed"]),
            channels=int(header.get("channels", "1")),  # what older files are silent about
            normalisation=Normalisation(
                tuple(json.loads(header["mean"])) if "mean" in header else IMAGENET.mean,
                tuple(json.loads(header["std"])) if "std" in header else IMAGENET.std,
            ),
            window=tuple(json.loads(header["window"])) if "window" in header else None,
        )
        model = build(card.backbone, len(card.classes))
        model.load_state_dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, KeyError, RuntimeError, ValueError) as error:
        raise ArtifactError(f"{path} is not a network written by `hscc train` ({error}); train it again.") from error
    return model.eval(), card


def _image_size(text: str) -> int | tuple[int, ...]:
    found = json.loads(text)
    return found if isinstance(found, int) else tuple(int(side) for side in found)
