"""Export: a network of the graph, or a saved one, in; one deployable file, checked on test images, out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import nn

from hscc.engine.export import EngineExport, export_engine
from hscc.errors import ArtifactError, ParamsError
from hscc.export.card import NOTICE, DeploymentCard, card_of
from hscc.export.onnx_file import export_onnx
from hscc.export.preprocessing import Picture, Preprocessing
from hscc.export.pt2_file import export_pt2
from hscc.files import file_sha256
from hscc.networks.storage import ModelCard, load_dense
from hscc.outputs import Outputs
from hscc.pipeline import layout
from hscc.pipeline.artifacts import Network, read_baseline, read_cell
from hscc.pipeline.cell_spec import Precision, parse_cell
from hscc.pipeline.data.images import labels_of, rows_of
from hscc.pipeline.data.loading import balanced_sample, read_images
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.deployment import PHANTOM, about_data, preprocessing_of, sample_pictures, scores_of
from hscc.pipeline.params import Params
from hscc.pipeline.statistics.schema import NetworkRow, read_results
from hscc.pipeline.tasks.registry import task_of
from hscc.pipeline.tracking import data_hash, git_commit
from hscc.storage import load
from hscc.training.images import to_input

_BATCH = 16  # calibration images at a time


@dataclass(frozen=True)
class Subject:
    """What is exported: the network in torch, its bare ONNX file, what comes before it and its card.

    With `calibration`, batches of training images, the engine's file is of int8.
    """

    model: nn.Module
    network: Path | None
    preprocessing: Preprocessing
    card: DeploymentCard
    calibration: list[torch.Tensor] = field(default_factory=list)


def run(
    params: Params,
    workspace: Path = Path("."),
    *,
    out: Path,
    cell: str | None = None,
    baseline: str | None = None,
    pt2: bool = False,
    precision: Precision = "fp32",
) -> None:
    """Write a cell or a baseline of the graph as one file from pictures to probabilities.

    Parameters
    ----------
    params : Params
        ``data.protocol`` is used, and ``quantise`` for int8.
    workspace : Path
        Folder of ``dvc.yaml``.
    out : Path
        An ONNX file (``.onnx``), or one of the engine (``.hscc``).
    cell, baseline : str, optional
        Name of a cell such as ``hscc-macs6-seed0``, or split protocol of a baseline; by default the cell that
        ``hscc register`` chose.
    pt2 : bool
        Whether to write the ``.pt2`` form beside it too.
    precision : {"fp32", "int8"}
        Of the arithmetic of a file for the engine; int8 is calibrated on training images.

    Raises
    ------
    ArtifactError
        If the network or the manifest is missing.
    ExportError
        If a written form differs from the network; the target stays as it was then.
    """
    if cell and baseline:
        raise ParamsError("--cell and --baseline exclude one another; give one of them.")
    if precision == "int8" and out.suffix != ".hscc":
        raise ParamsError(
            f"--precision int8 is for the engine and --out {out} is no .hscc file; `hscc quantise` makes ONNX."
        )
    protocol = baseline or params.data.protocol
    network = (
        read_baseline(workspace / layout.baseline(protocol), protocol, params.evaluate.score)
        if baseline
        else _read_cell(cell or _registered(workspace), protocol, params.evaluate.score, workspace)
    )
    dense, origin = load_dense(workspace / layout.baseline(protocol) / "model.safetensors")
    subject = _subject(network, dense, origin, params, workspace)
    if precision == "int8":
        subject = replace(subject, calibration=_calibration(params, origin, protocol, workspace))
    write(subject, sample_pictures(workspace, origin, protocol), out, pt2)


def _calibration(params: Params, card: ModelCard, protocol: str, workspace: Path) -> list[torch.Tensor]:
    """Batches of the training images that the stage quantise takes too."""
    manifest = read_manifest(workspace / layout.MANIFEST)
    images = read_images(manifest, card, workspace)
    train = rows_of(manifest, protocol, "train")
    rows = train[
        balanced_sample(labels_of(manifest, card.classes)[train], params.quantise.images, params.quantise.seed)
    ]
    spans = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    return [to_input(np.asarray(images[span]), card.normalisation) for span in spans]


def run_folder(folder: Path, size: int, classes: tuple[str, ...], out: Path, pt2: bool = False) -> None:
    """Write a network that `hscc.save` put into a folder; it is checked on drawn pictures.

    Parameters
    ----------
    folder : Path
        Written by `hscc.save`.
    size : int
        Pixels a side that the network takes.
    classes : tuple of str
        Names of its outputs, in order.
    out, pt2
        As for `run`.
    """
    model = load(folder)
    known = card_of(model, len(classes))
    card = DeploymentCard(classes, known.backbone, known.method, known.budget, known.plan)
    write(Subject(model, None, Preprocessing(size), card), [], out, pt2)


def write(subject: Subject, pictures: list[Picture], out: Path, pt2: bool) -> None:
    """Write the forms that are asked for and print what came of the check.

    Raises
    ------
    ParamsError
        If `out` ends in neither ``.onnx`` nor ``.hscc``.
    """
    if out.suffix not in (".onnx", ".hscc"):
        raise ParamsError(
            f"--out {out} must end in .onnx, or in .hscc for the engine; the .pt2 form gets the same name with its own "
            "ending."
        )
    console = Console()
    with console.status(f"writing {out}"):
        differences = {out: _write(subject, pictures, out)}
        if pt2:
            archive = out.with_suffix(".pt2")
            differences[archive] = export_pt2(
                subject.model, archive, subject.preprocessing, subject.card, pictures=pictures, output=_output(subject)
            )
    for path, difference in differences.items():
        if subject.calibration and path == out:
            print(f"{path}  {path.stat().st_size / 1e6:.1f} MB, within {difference:.1e} of its arithmetic in torch")
            continue
        checked = f"{len(pictures)} test images and drawn pictures" if pictures else "drawn pictures"
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB, within {difference:.1e} of torch on {checked}", flush=True)


def _write(subject: Subject, pictures: list[Picture], out: Path) -> float:
    preprocessing = subject.preprocessing
    if out.suffix == ".onnx":
        return export_onnx(
            subject.model, out, preprocessing, subject.card, pictures=pictures, network=subject.network,
            output=_output(subject),
        )  # fmt: skip
    shape = preprocessing.input_shape
    if subject.calibration:
        done = export_engine(
            subject.model, out, preprocessing, subject.card, input_shape=shape, images=subject.calibration,
            precision="int8",
        )  # fmt: skip
        _tell_int8(done)
        return done.difference
    images = torch.cat([preprocessing.prepare(picture) for picture in pictures]) if pictures else None
    return export_engine(
        subject.model, out, preprocessing, subject.card, input_shape=shape, images=images
    ).difference  # fmt: skip


def _output(subject: Subject) -> Outputs | None:
    kind = subject.card.output_kind
    return None if kind is None else Outputs(kind)


def _tell_int8(done: EngineExport) -> None:
    assert done.divergence is not None
    kl = "" if done.divergence.kl is None else f", KL {done.divergence.kl:.1e}"
    print(f"int8 differs from float32 by {done.divergence.mean:.1%} on average on training images{kl}", flush=True)
    for name in done.kept_float:
        print(f"in float32: {name}", flush=True)


def _registered(workspace: Path) -> str:
    path = workspace / layout.REGISTRATION
    name = json.loads(path.read_text(encoding="utf-8"))["registered"] if path.is_file() else None
    if name is None:
        raise ArtifactError(f"{path} names no registered cell; name one with --cell, or a baseline with --baseline.")
    return str(name)


def _read_cell(name: str, protocol: str, score: str, workspace: Path) -> Network:
    return read_cell(workspace / layout.cell(name), parse_cell(name), protocol, score)


def _subject(network: Network, dense: nn.Module, origin: ModelCard, params: Params, workspace: Path) -> Subject:
    model = dense if network.is_dense else load(network.model.parent)
    known = card_of(model, len(origin.classes))
    digest = file_sha256(network.model)
    found, phantom = _results(digest, workspace)
    card = DeploymentCard(
        classes=origin.classes,
        backbone=origin.backbone,
        method=network.method,
        budget=known.budget,
        plan=known.plan,
        protocol=network.protocol,
        data_hash=data_hash(workspace),
        git_commit=git_commit(workspace),
        network_sha256=digest,
        scores=scores_of(found) if found else {},
        notice=NOTICE + PHANTOM * phantom,
        output_kind=task_of(params).outputs.kind,
        **about_data(params.data),
    )
    return Subject(model, network.model, preprocessing_of(origin), card)


def _results(digest: str, workspace: Path) -> tuple[NetworkRow | None, bool]:
    """Look up the row of a file by its hash, for that of another does not count, and whether all were of phantoms."""
    path = workspace / layout.RESULTS_JSON
    if not path.is_file():
        return None, False
    results = read_results(path)
    return next((row for row in results.rows if row.model_sha256 == digest), None), results.phantom
