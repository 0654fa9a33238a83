"""A plan: what becomes of each layer, at what cost and predicted loss."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from hscc.calibration.layers import Layer
from hscc.compression.structure import DENSE, Block, Region, Structure, structure_macs, structure_params
from hscc.errors import ArtifactError

_FORMAT = "hscc-plan-1"


@dataclass(frozen=True)
class LayerPlan:
    """What becomes of one layer.

    Attributes
    ----------
    layer : Layer
        Geometry of the dense layer.
    structure : Structure
        What takes its place.
    loss : float
        Predicted squared change of the centred logits, summed over classes.
    reason : str
        Why it was left dense, or empty.
    """

    layer: Layer
    structure: Structure
    loss: float = 0.0
    reason: str = ""

    @property
    def macs(self) -> int:
        """MACs after."""
        return structure_macs(self.layer, self.structure)

    @property
    def params(self) -> int:
        """Parameters after."""
        return structure_params(self.layer, self.structure)


@dataclass(frozen=True)
class Plan:
    """What becomes of a network.

    Attributes
    ----------
    method : str
        Name of the method.
    settings : dict
        Its fields.
    budget : float
        MACs ratio asked for.
    seed : int
        Of the clustering.
    dense_macs : int
        MACs of the dense network, all layers.
    other_macs : int
        MACs of layers that are not in `layers`.
    layers : tuple of LayerPlan
        In the order of execution.
    left_dense : dict
        Layers that no method touches, with the reason.
    weights : dict
        Layer name to the state of its replacement. Not part of the JSON form; `hscc.save` writes the weights.
    """

    method: str
    settings: dict[str, Any]
    budget: float
    seed: int
    dense_macs: int
    other_macs: int
    layers: tuple[LayerPlan, ...]
    left_dense: dict[str, str]
    weights: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def macs(self) -> int:
        """MACs of the compressed network."""
        return self.other_macs + sum(entry.macs for entry in self.layers)

    @property
    def loss(self) -> float:
        """Predicted squared change of the centred logits: the layers' losses added."""
        return sum(entry.loss for entry in self.layers)

    def to_json(self) -> str:
        """Everything but the weights, as JSON."""
        content = {key: value for key, value in self.__dict__.items() if key not in ("layers", "weights")}
        layers = [asdict(entry) for entry in self.layers]
        return json.dumps({"format": _FORMAT, **content, "layers": layers}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read `to_json`'s form; the weights are absent.

        Raises
        ------
        ArtifactError
            If it is not a plan of this version.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != _FORMAT:
                raise KeyError("format")
            layers = tuple(_layer_plan(entry) for entry in content.pop("layers"))
            return cls(**content, layers=layers)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"this is not a compression plan of this version ({error}); compress again.") from error

    def __str__(self) -> str:
        """Return a table that a person reads."""
        table = Table(title=f"{self.method} at {self.budget:g}x fewer MACs: {self.dense_macs / self.macs:.2f}x")
        for heading in ("layer", "structure", "ranks", "MMACs", "params k", "predicted loss"):
            table.add_column(heading, justify="left" if heading in ("layer", "structure") else "right")
        for entry in self.layers:
            layer = entry.layer
            table.add_row(
                layer.name,
                f"dense: {entry.reason}" if entry.structure.kind == "dense" else _describe(entry.structure),
                _ranks(entry.structure),
                f"{layer.macs / 1e6:.1f} > {entry.macs / 1e6:.1f}",
                f"{layer.weights / 1e3:.0f} > {entry.params / 1e3:.0f}",
                f"{entry.loss:.2e}",
            )
        for name, reason in self.left_dense.items():
            table.add_row(name, f"dense: {reason}", "", "", "", "")
        console = Console(width=118, record=True, file=io.StringIO())
        console.print(table)
        return console.export_text()


def _describe(structure: Structure) -> str:
    if structure.kind == "tucker":
        return "Tucker-2"
    rows, columns = structure.region_grid
    clusters = structure.clusters
    return f"{rows}x{columns} region{'s' * (rows * columns > 1)}, {clusters} cluster{'s' * (clusters > 1)}"


def _ranks(structure: Structure) -> str:
    if structure.kind == "tucker":
        return "x".join(map(str, structure.core))
    ranks = [block.rank for region in structure.regions for block in region.blocks]
    if not ranks:
        return ""
    return str(ranks[0]) if len(ranks) == 1 else f"{min(ranks)} to {max(ranks)}"


def _layer_plan(entry: dict[str, Any]) -> LayerPlan:
    described = entry["layer"].items()
    shape: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in described}
    stored = entry["structure"]
    regions = tuple(
        Region(tuple(region["tile"]), tuple(Block(tuple(b["channels"]), b["rank"]) for b in region["blocks"]))
        for region in stored["regions"]
    )
    structure = Structure(stored["kind"], stored["cells"], regions, tuple(stored["core"]))
    return LayerPlan(Layer(**shape), structure if structure.kind != "dense" else DENSE, entry["loss"], entry["reason"])
