"""A plan: what becomes of each layer, at what cost and predicted loss."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from hscc.budgets.budget import Budget
from hscc.calibration.layers import Layer
from hscc.errors import ArtifactError, BudgetError
from hscc.networks.inputs import InputShape, as_shape
from hscc.structures.base import State, Structure, as_tuples, read_structure
from hscc.terminal import table_text

_FORMAT = "hscc-plan-3"


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
        return self.structure.macs(self.layer)

    @property
    def params(self) -> int:
        """Parameters after."""
        return self.structure.params(self.layer)


@dataclass(frozen=True)
class Plan:
    """What becomes of a network.

    Attributes
    ----------
    method : str
        Name of the method.
    settings : dict
        Its fields.
    budget : Budget
        What was asked for.
    seed : int
        Of the clustering.
    dense_macs, dense_params : int
        Of the dense network, all layers.
    other_macs, other_params : int
        Of layers that are not in `layers`.
    layers : tuple of LayerPlan
        In the order of execution.
    left_dense : dict
        Layers that no method touches, with the reason.
    bound : str
        Why the network is more than 2 % under its budget, or empty.
    calibration : str
        Digest of the calibration's network; see `hscc.calibration.collect.fingerprint`.
    timed : dict
        Times faster than the dense network, by batch size, where the budget asked for it.
    runtime : str
        In which both were timed; in ONNX Runtime where a plan of an earlier version does not say. Empty where nothing
        was.
    input_shape : tuple of int, or a tuple or dict of these, optional
        As in `hscc.Calibration`: the shape of one of its images. Only written to JSON where the first layer of
        the plan is not the one that reads the image.
    weights : dict
        Layer name to the state of its replacement. Not part of the JSON form: `hscc.save` writes the weights of a
        network, and `hscc.apply` computes them anew from the calibration.
    """

    method: str
    settings: dict[str, Any]
    budget: Budget
    seed: int
    dense_macs: int
    dense_params: int
    other_macs: int
    other_params: int
    layers: tuple[LayerPlan, ...]
    left_dense: dict[str, str]
    bound: str = ""
    calibration: str = ""
    timed: dict[str, float] = field(default_factory=dict)
    input_shape: InputShape | None = None
    runtime: str = ""
    weights: dict[str, State] = field(default_factory=dict, repr=False, compare=False)

    @property
    def macs(self) -> int:
        """MACs of the compressed network."""
        return self.other_macs + sum(entry.macs for entry in self.layers)

    @property
    def params(self) -> int:
        """Parameters of the compressed network."""
        return self.other_params + sum(entry.params for entry in self.layers)

    @property
    def loss(self) -> float:
        """Predicted squared change of the centred logits: the layers' losses added."""
        return sum(entry.loss for entry in self.layers)

    def to_json(self) -> str:
        """Everything but the weights, as JSON."""
        left_out = ["layers", "weights", "budget"]
        if self.input_shape in (None, _first_input(self.layers)):
            left_out.append("input_shape")
        if not self.runtime:
            left_out.append("runtime")
        content = {key: value for key, value in self.__dict__.items() if key not in left_out}
        layers = [
            {**entry.__dict__, "layer": asdict(entry.layer), "structure": entry.structure.to_record()}
            for entry in self.layers
        ]
        return (
            json.dumps({"format": _FORMAT, **content, "budget": self.budget.to_record(), "layers": layers}, indent=1)
            + "\n"
        )

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
            settings = {key: as_tuples(value) for key, value in content.pop("settings").items()}
            shape = content.pop("input_shape", _first_input(layers))
            input_shape = None if shape is None else as_shape(shape)
            budget = Budget.from_record(content.pop("budget"))
            if content["timed"]:
                content.setdefault("runtime", "onnxruntime")
            return cls(**content, settings=settings, budget=budget, layers=layers, input_shape=input_shape)
        except (KeyError, TypeError, ValueError, BudgetError) as error:
            raise ArtifactError(f"this is not a compression plan of this version ({error}); compress again.") from error

    def __str__(self) -> str:
        """Return a table that a person reads."""
        from rich.table import Table

        got = f"{self.dense_macs / self.macs:.2f}x fewer MACs, {self.dense_params / self.params:.2f}x fewer parameters"
        got += "".join(f", {ratio:.2f}x faster at {batch}" for batch, ratio in self.timed.items())
        got += f" in {self.runtime}" if self.timed else ""
        table = Table(title=f"{self.method}, asked for {self.budget}: {got}", caption=self.bound or None)
        for heading in ("layer", "structure", "regions", "clusters", "ranks", "MMACs", "params k", "predicted loss"):
            left = heading in ("layer", "structure")
            table.add_column(heading, justify="left" if left else "right", overflow="fold")  # names are never cut
        for entry in self.layers:
            layer, structure = entry.layer, entry.structure
            table.add_row(
                layer.name,
                ": ".join(filter(None, (structure.describe(), entry.reason))),
                *structure.partition_texts(),
                structure.ranks_text(),
                f"{layer.macs / 1e6:.1f} > {entry.macs / 1e6:.1f}",
                f"{layer.weights / 1e3:.0f} > {entry.params / 1e3:.0f}",
                f"{entry.loss:.2e}",
            )
        for name, reason in self.left_dense.items():
            table.add_row(name, f"dense: {reason}", "", "", "", "", "", "")
        return table_text(table, width=132)


def _first_input(layers: tuple[LayerPlan, ...]) -> tuple[int, ...] | None:
    """Shape that the first layer reads, if it is a convolution."""
    if not layers or layers[0].layer.kind != "conv":
        return None
    return (layers[0].layer.inputs, *layers[0].layer.input_grid)


def _layer_plan(entry: dict[str, Any]) -> LayerPlan:
    layer = Layer(**{key: as_tuples(value) for key, value in entry["layer"].items()})
    return LayerPlan(layer, read_structure(entry["structure"]), entry["loss"], entry["reason"])
