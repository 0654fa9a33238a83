"""The networks under test: what their folders say about them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hscc.errors import ArtifactError
from hscc.files import file_sha256
from hscc.methods import CONTROLS
from hscc.pipeline import layout
from hscc.pipeline.cell_spec import CellSpec, Precision, first_seeds
from hscc.pipeline.params import Params
from hscc.pipeline.statistics.schema import DENSE, OnValidation, network_name

_DENSE_VALIDATION = {"val_kl": 0.0, "predicted_loss": 0.0}  # a dense network is its own reference


@dataclass(frozen=True)
class Network:
    """One ONNX file and the figures that came with it.

    Attributes
    ----------
    spec : CellSpec or None
        Spec of the cell; None for a baseline and its int8 variant.
    seed : int
        Of training or of compression and fine-tuning.
    protocol : str
        Split protocol it was trained under and is tested under.
    model : Path
        The ONNX file.
    macs, params : int
        Counted on the real module, for one image.
    validation : OnValidation
        Its figures on the validation split.
    precision : str
        ``fp32``, or ``int8`` for the quantised variant of a network.
    """

    spec: CellSpec | None
    seed: int
    protocol: str
    model: Path
    macs: int
    params: int
    validation: OnValidation
    precision: Precision = "fp32"

    @property
    def method(self) -> str:
        """Method of the cell, ``dense`` for a baseline."""
        return self.spec.method if self.spec else DENSE

    @property
    def name(self) -> str:
        """Name of the network in every table."""
        return network_name(self.spec, self.protocol, self.precision)

    @property
    def is_dense(self) -> bool:
        """Whether it is a baseline; the int8 variant of one is not, it is compared with it."""
        return self.spec is None and self.precision == "fp32"

    @property
    def is_compressed(self) -> bool:
        """Whether it is a cell in floating point."""
        return self.spec is not None and self.precision == "fp32"

    @property
    def is_control(self) -> bool:
        """Whether it is there for the ablation alone, so that nobody deploys it."""
        return self.method in CONTROLS


def read_own(params: Params, workspace: Path) -> list[Network]:
    """Read the baseline of ``data.protocol`` and then its cells.

    Raises
    ------
    ArtifactError
        If a network is missing or does not fit; the message names the stage to run.
    """
    own = params.data.protocol
    score = params.evaluate.score
    cells = [read_cell(workspace / layout.cell(spec.name), spec, own, score) for spec in params.compress.cells]
    return [read_baseline(workspace / layout.baseline(own), own, score), *cells]


def read_others(params: Params, workspace: Path) -> list[Network]:
    """Read the baselines of the protocols other than ``data.protocol``.

    Raises
    ------
    ArtifactError
        As `read_own`.
    """
    others = (protocol for protocol in params.train.protocols if protocol != params.data.protocol)
    score = params.evaluate.score
    return [read_baseline(workspace / layout.baseline(protocol), protocol, score) for protocol in others]


def read_int8_variants(params: Params, workspace: Path, networks: Sequence[Network]) -> list[Network]:
    """Read the int8 variants of those of the networks that have one; none where ``quantise.enabled`` is off.

    Raises
    ------
    ArtifactError
        As `read_own`, also if a variant was made from another file.
    """
    if not params.quantise.enabled:
        return []
    return [
        read_int8_variant(workspace / layout.int8_variant(network.name), network, params.evaluate.score)
        for network in deployable(networks)
    ]


def of_first_seed(networks: Sequence[Network]) -> list[Network]:
    """Leave out what differs from another cell in its seed only: neither time nor int8 would differ."""
    first = first_seeds([network.spec for network in networks if network.spec])
    return [network for network in networks if network.spec is None or network.spec in first]


def deployable(networks: Sequence[Network]) -> list[Network]:
    """Leave out further seeds and controls."""
    return [network for network in of_first_seed(networks) if not network.is_control]


def read_baseline(folder: Path, protocol: str, score: str = "accuracy") -> Network:
    """Read the dense network of one protocol.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``metrics.json``.
    protocol : str
        The protocol it must have been trained under.
    score : str
        Name of the primary score.

    Raises
    ------
    ArtifactError
        If a file is missing or does not fit.
    """
    return _read(folder, f"hscc train --protocol {protocol}", protocol, score, None, _DENSE_VALIDATION)


def read_cell(folder: Path, spec: CellSpec, protocol: str, score: str = "accuracy") -> Network:
    """Read one compressed network.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``metrics.json``.
    spec : CellSpec
        The cell that it must be.
    protocol : str
        The protocol of the baseline it was made from.
    score : str
        Name of the primary score.

    Raises
    ------
    ArtifactError
        If a file is missing or does not fit.
    """
    return _read(folder, f"hscc compress {spec.name}", protocol, score, spec, {"seed": spec.seed})


def read_int8_variant(folder: Path, network: Network, score: str = "accuracy") -> Network:
    """Read the int8 variant of a network.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``metrics.json``.
    network : Network
        What it must have been made from.
    score : str
        Name of the primary score.

    Returns
    -------
    Network
        The same network in int8; score and KL on the validation split are its own.

    Raises
    ------
    ArtifactError
        If a file is missing or does not fit, or the variant was made from another file than the network's.
    """
    known = {"seed": network.seed, "macs": network.macs, "params": network.params}
    loss = {"predicted_loss": network.validation.predicted_loss}
    spec = network.spec.int8 if network.spec else None
    variant = _read(folder, "hscc quantise", network.protocol, score, spec, known | loss)
    source = json.loads((folder / "metrics.json").read_text(encoding="utf-8")).get("source_sha256")
    if source != file_sha256(network.model):
        raise ArtifactError(f"{folder} was not made from {network.model}; run `hscc quantise`, or `dvc repro`.")
    return replace(variant, precision="int8")


def _read(
    folder: Path, command: str, protocol: str, score: str, spec: CellSpec | None, known: dict[str, Any]
) -> Network:
    path = folder / "metrics.json"
    for needed in (path, folder / "model.onnx"):
        if not needed.is_file():
            raise ArtifactError(f"{needed} does not exist; run `{command}`, or `dvc repro`.")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON; run `{command}` again.") from error
    if not isinstance(facts, dict) or facts.get("protocol") != protocol:
        raise ArtifactError(f"{path} is not about the {protocol} protocol; run `{command}` again.")
    try:
        return _network(folder, spec, {**facts, **known}, score)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} lacks a usable figure ({error}); run `{command}` again.") from error


def _network(folder: Path, spec: CellSpec | None, facts: dict[str, Any], score: str) -> Network:
    def before(name: str) -> float | None:
        return _finite(facts, name) if name in facts else None

    validation = OnValidation(
        score=_finite(facts, f"val_{score}"),
        kl=_finite(facts, "val_kl"),
        score_before=before(f"val_{score}_before"),
        kl_before=before("val_kl_before"),
        score_untrained=before(f"val_{score}_untrained"),
        kl_untrained=before("val_kl_untrained"),
        predicted_loss=None if facts["predicted_loss"] is None else float(facts["predicted_loss"]),
    )
    return Network(
        spec=spec,
        seed=int(facts["seed"]),
        protocol=str(facts["protocol"]),
        model=folder / "model.onnx",
        macs=int(facts["macs"]),
        params=int(facts["params"]),
        validation=validation,
    )


def _finite(facts: dict[str, Any], name: str) -> float:
    value = float(facts[name])
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return value
