"""The networks under test: what their folders say about them."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hscc.budgets.budget import Budget
from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.methods import CONTROLS
from hscc.pipeline import layout
from hscc.pipeline.cell_spec import CellSpec, first_seeds
from hscc.pipeline.params import Params

DENSE = "dense"
FLOAT, INT8 = "fp32", "int8"


@dataclass(frozen=True)
class Network:
    """One ONNX file and the figures that came with it.

    Attributes
    ----------
    method : str
        ``dense`` for a baseline.
    budget : float
        How many times fewer MACs were asked for; 1 for a baseline.
    seed : int
        Of training or of compression and fine-tuning.
    protocol : str
        Split protocol it was trained under and is tested under.
    model : Path
        The ONNX file.
    macs, params : int
        Counted on the real module, for one image.
    val_accuracy : float
        On the validation split, after fine-tuning.
    val_kl : float
        KL divergence from the baseline on the validation split, nats; 0 for a baseline.
    predicted_loss : float or None
        What the method foresaw before fine-tuning; None where it foresees nothing, 0 for a baseline.
    precision : str
        ``fp32``, or ``int8`` for the quantised twin of a network.
    val_accuracy_before, val_kl_before : float or None
        As `val_accuracy` and `val_kl`, before fine-tuning; None for a baseline and for int8.
    """

    method: str
    budget: float
    seed: int
    protocol: str
    model: Path
    macs: int
    params: int
    val_accuracy: float
    val_kl: float
    predicted_loss: float | None
    precision: str = FLOAT
    val_accuracy_before: float | None = None
    val_kl_before: float | None = None

    @property
    def name(self) -> str:
        """Name of the network in every table: ``dense-<protocol>`` or ``<method>-<budget>-<seed>``, and ``-int8``."""
        return network_name(self.method, self.budget, self.seed, self.protocol, self.precision)

    @property
    def is_dense(self) -> bool:
        """Whether it is a baseline; the int8 twin of one is not, it is held against it."""
        return self.method == DENSE and self.precision == FLOAT


def network_name(method: str, budget: float, seed: int, protocol: str, precision: str = FLOAT) -> str:
    """Compose the name of a network from the first columns of its row."""
    if method != DENSE:
        return _spec(method, budget, seed, precision).name
    return f"{DENSE}-{protocol}" if precision == FLOAT else f"{DENSE}-{protocol}-{precision}"


# TODO: goes when every table has one column per resource.
def _columns(spec: CellSpec) -> tuple[str, float]:
    asked = spec.budget
    if asked.latency is None:
        return spec.method, asked.macs or asked.params or 1.0
    return (f"{spec.method}_timed", asked.latency) if asked.macs is None else (f"{spec.method}_fast", asked.macs)


def _spec(method: str, budget: float, seed: int, precision: str) -> CellSpec:
    found = Budget(macs=budget)
    if method.endswith("_timed"):
        method, found = method.removesuffix("_timed"), Budget(latency=budget)
    elif method.endswith("_fast"):
        method, found = method.removesuffix("_fast"), Budget(macs=budget, latency=0.75 * budget)
    return CellSpec(method, found, seed, "int8" if precision == INT8 else "fp32")


def read_baseline(folder: Path, protocol: str) -> Network:
    """Read the dense network of one protocol.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``metrics.json``.
    protocol : str
        The protocol it must have been trained under.

    Returns
    -------
    Network
        With method ``dense`` and budget 1.

    Raises
    ------
    ArtifactError
        If a file is missing or does not fit.
    """
    stage = f"hscc train --protocol {protocol}"
    facts = _read_metrics(folder, stage, protocol)
    return _network(folder, stage, {**facts, "method": DENSE, "budget": 1.0, "val_kl": 0.0, "predicted_loss": 0.0})


def read_cell(folder: Path, spec: CellSpec, protocol: str) -> Network:
    """Read one compressed network.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``metrics.json``.
    spec : CellSpec
        The cell that it must be.
    protocol : str
        The protocol of the baseline it was made from.

    Returns
    -------
    Network
        The cell.

    Raises
    ------
    ArtifactError
        If a file is missing or does not fit.
    """
    stage = f"hscc compress {spec.name}"
    method, budget = _columns(spec)
    facts = _read_metrics(folder, stage, protocol)
    return _network(folder, stage, {**facts, "method": method, "budget": budget, "seed": spec.seed})


def read_twin(folder: Path, network: Network) -> Network:
    """Read the int8 twin of a network.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``metrics.json``.
    network : Network
        What it must have been made from.

    Returns
    -------
    Network
        The same network in int8; accuracy and KL on the validation split are its own.

    Raises
    ------
    ArtifactError
        If a file is missing or does not fit, or the twin was made from another file than the network's.
    """
    stage = "hscc quantise"
    facts = _read_metrics(folder, stage, network.protocol)
    if facts.get("source_sha256") != file_sha256(network.model):
        raise ArtifactError(f"{folder} was not made from {network.model}; run `{stage}`, or `dvc repro`.")
    known = {name: getattr(network, name) for name in ("method", "budget", "seed", "macs", "params", "predicted_loss")}
    return replace(_network(folder, stage, {**facts, **known}), precision=INT8)


def _read_metrics(folder: Path, stage: str, protocol: str) -> dict[str, Any]:
    path = folder / "metrics.json"
    for needed in (path, folder / "model.onnx"):
        if not needed.is_file():
            raise ArtifactError(f"{needed} does not exist; run `{stage}`, or `dvc repro`.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON; run `{stage}` again.") from error
    if not isinstance(facts, dict) or facts.get("protocol") != protocol:
        raise ArtifactError(f"{path} is not about the {protocol} protocol; run `{stage}` again.")
    return facts


def _network(folder: Path, stage: str, facts: dict[str, Any]) -> Network:
    try:
        loss = facts["predicted_loss"]
        return Network(
            method=str(facts["method"]),
            budget=float(facts["budget"]),
            seed=int(facts["seed"]),
            protocol=str(facts["protocol"]),
            model=folder / "model.onnx",
            macs=int(facts["macs"]),
            params=int(facts["params"]),
            val_accuracy=_finite(facts, "val_accuracy"),
            val_kl=_finite(facts, "val_kl"),
            predicted_loss=None if loss is None else float(loss),
            val_accuracy_before=_finite(facts, "val_accuracy_before") if "val_accuracy_before" in facts else None,
            val_kl_before=_finite(facts, "val_kl_before") if "val_kl_before" in facts else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{folder / 'metrics.json'} lacks a usable figure ({error}); run `{stage}` again."
        ) from error


def _finite(facts: dict[str, Any], name: str) -> float:
    value = float(facts[name])
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return value


def read_own(params: Params, workspace: Path) -> list[Network]:
    """Read the baseline of ``data.protocol`` and then its cells.

    Raises
    ------
    ArtifactError
        If a network is missing or does not fit; the message names the stage to run.
    """
    own = params.data.protocol
    cells = [read_cell(workspace / layout.cell(spec.name), spec, own) for spec in params.compress.cells]
    return [read_baseline(workspace / layout.baseline(own), own), *cells]


def of_first_seed(params: Params, networks: list[Network]) -> list[Network]:
    """Leave out what differs from another network in its seed only: the clock and int8 have no need of it."""
    first = {spec.name for spec in first_seeds(params.compress.cells)}
    return [network for network in networks if network.is_dense or network.name in first]


def without_controls(params: Params, networks: list[Network]) -> list[Network]:
    """Leave out the controls, which nobody deploys."""
    return [network for network in networks if network.method not in CONTROLS]


def read_twins(params: Params, workspace: Path, networks: list[Network]) -> list[Network]:
    """Read the int8 twins of those of the networks that have one; none where ``quantise.enabled`` is off.

    Raises
    ------
    ArtifactError
        As `read_own`, also if a twin was made from another file.
    """
    if not params.quantise.enabled:
        return []
    made = without_controls(params, of_first_seed(params, networks))
    return [read_twin(workspace / layout.twin(network.name), network) for network in made]


def read_others(params: Params, workspace: Path) -> list[Network]:
    """Read the baselines of the protocols other than ``data.protocol``.

    Raises
    ------
    ArtifactError
        As `read_own`.
    """
    others = (protocol for protocol in params.train.protocols if protocol != params.data.protocol)
    return [read_baseline(workspace / layout.baseline(protocol), protocol) for protocol in others]
