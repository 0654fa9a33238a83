"""Stage tradeoff: the baseline, its moments and validation images in; what structure buys, without fine-tuning, out.

Which slice of regions x clusters x budget x calibration size is run: on the full calibration every combination of
regions and clusters and every method that chooses by itself, each at every budget; on smaller calibrations, made here
from subsets of the same draw, the coarsest, the middle and the finest combination at the middle budget.
Hyper-parameters are compared here, so the test split is not read.

Run it on a machine that does nothing else: it reads the clock.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from torch import nn

import hscc
from hscc.calibration.collect import Calibration, calibrate
from hscc.calibration.storage import load_calibration
from hscc.errors import ArtifactError, BudgetError
from hscc.files import file_sha256, replace_text
from hscc.networks.cost import count_macs, count_parameters
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params
from hscc.pipeline.provenance import machine, versions
from hscc.pipeline.report.terminal import render_tradeoff
from hscc.pipeline.stages.calibrate import balanced_sample
from hscc.pipeline.stages.train import read_splits
from hscc.pipeline.statistics.results import to_csv, to_json
from hscc.pipeline.statistics.scores import resample, resampled_mean, standard_error
from hscc.pipeline.statistics.structure_claims import judge
from hscc.pipeline.statistics.structure_grid import (
    Clock,
    Ground,
    Setting,
    Trial,
    forget_spectra,
    full_slice,
    keep_trial,
    kept_trial,
    score_trial,
    small_slice,
    tabulate,
    try_setting,
)
from hscc.pipeline.tracking import data_hash, git_commit, stage_run
from hscc.training.images import Split, to_input

_WIDE = 130  # columns
_TRACKED = ("val_kl", "val_accuracy", "predicted_loss", "macs_ratio", "params_ratio")


@dataclass(frozen=True)
class _Inputs:
    """What the settings are tried with."""

    model: nn.Module
    train: Split
    val: Split
    groups: npt.NDArray[np.int64]


def run(params: Params, workspace: Path = Path(".")) -> None:
    """Try the settings; write tradeoff.json with the answered claims and tradeoff.csv, and print the table.

    Parameters
    ----------
    params : Params
        Sections ``data``, ``calibrate`` and ``tradeoff`` are used. Switched off, the stage writes a table without rows.
    workspace : Path
        Folder of ``dvc.yaml``.

    Raises
    ------
    ArtifactError
        If the baseline, its moments or the manifest is missing; earlier results stay then.
    """
    protocol, settings = params.data.protocol, params.tradeoff
    origin = {"protocol": protocol, "data_hash": data_hash(workspace), "git_commit": git_commit(workspace)}
    if not settings.enabled:
        _write(workspace, {**origin, "enabled": False, "rows": [], "claims": []})
        return
    inputs = _read(params, workspace)
    with stage_run("tradeoff", protocol, settings.model_dump(), {"protocol": protocol}, workspace) as tracked:
        kept = workspace / layout.TRIALS / _identity(params, workspace)
        document = {**origin, "enabled": True, **_document(params, workspace, inputs, kept)}
        _write(workspace, document)
        shutil.rmtree(workspace / layout.TRIALS)
        tracked.metrics({f"{row['name']}.{name}": row[name] for row in document["rows"] for name in _TRACKED})
        tracked.artifact(workspace / layout.TRADEOFF_JSON)
    _show(document)


def _read(params: Params, workspace: Path) -> _Inputs:
    protocol = params.data.protocol
    model, card = load_dense(workspace / layout.baseline(protocol) / "model.safetensors")
    manifest = read_manifest(workspace / layout.MANIFEST)
    train, val = read_splits(manifest, card.image_size, protocol, workspace)
    moments = workspace / layout.MOMENTS
    if not moments.is_file():
        raise ArtifactError(f"{moments} does not exist; run `hscc calibrate` first.")
    return _Inputs(model, train, val, manifest["group"].to_numpy(np.int64)[val.rows])


def _document(params: Params, workspace: Path, inputs: _Inputs, kept: Path) -> dict[str, Any]:
    settings, val = params.tradeoff, inputs.val
    clock = Clock(tuple(sorted(settings.batches)), settings.threads, settings.seconds)
    ground = Ground(inputs.model, np.ascontiguousarray(val.images[val.rows]), clock)
    slices = _slices(params, inputs.train)
    images = max(slices)
    trials, unreachable = _try_all(slices, params, workspace, inputs, ground, kept)
    noise = ground.times(ground.graph)
    weights = resample(inputs.groups, settings.resamples, settings.seed)
    scored = [score_trial(trial, ground.logits, val.labels, weights) for trial in trials]
    scored.sort(key=lambda each: (-each.setting.images, each.setting.budget))
    correct = (ground.logits.argmax(axis=1) == val.labels).astype(np.float64)
    shape = (3, *ground.images.shape[1:])
    return {
        "command": "dvc repro tradeoff",
        "seed": settings.seed,
        "resamples": settings.resamples,
        "images": len(val),
        "calibration": images,
        "batches": list(clock.batches),
        "threads": clock.threads,
        "machine": machine(),
        "versions": versions(),
        "clock": {f"b{batch}": asdict(timing.speedup) for batch, timing in noise.items()},
        "dense": {
            "macs": count_macs(inputs.model, shape),
            "params": count_parameters(inputs.model),
            "val_accuracy": float(correct.mean()),
            "val_accuracy_se": standard_error(resampled_mean(correct, weights)),
            **{f"latency_ms_b{batch}": timing.dense_ms.median for batch, timing in noise.items()},
        },
        "rows": tabulate(scored, images, clock.batches),
        "unreachable": unreachable,
        "claims": judge(scored, images, clock.batches),
    }


def _slices(params: Params, train: Split) -> dict[int, list[list[Setting]]]:
    """Settings by the number of calibration images, the full calibration first."""
    grid = params.tradeoff
    full = len(balanced_sample(train.labels, params.calibrate.images, params.calibrate.seed))
    slices = {full: full_slice(grid.regions, grid.clusters, grid.searched, grid.budgets, full)}
    for images in sorted(grid.calibrations, reverse=True):
        if images < full:  # a training split may have fewer images than were asked for
            slices[images] = small_slice(grid.regions, grid.clusters, grid.budgets, images)
    return slices


def _try_all(
    slices: Mapping[int, list[list[Setting]]],
    params: Params,
    workspace: Path,
    inputs: _Inputs,
    ground: Ground,
    kept: Path,
) -> tuple[list[Trial], list[dict[str, Any]]]:
    """Try what is not kept from a killed run; what a structure cannot reach is told apart."""
    trials: list[Trial] = []
    unreachable: list[dict[str, Any]] = []
    total = sum(len(settings) for structures in slices.values() for settings in structures)
    with Progress(transient=True) as progress:
        task = progress.add_task("trying settings", total=total)
        for images, structures in slices.items():
            calibration: Calibration | None = None
            for settings in structures:
                for setting in settings:
                    progress.update(task, description=setting.name)
                    trial = kept_trial(setting, kept)
                    if trial is None:
                        calibration = calibration or _calibrated(images, max(slices), params, workspace, inputs)
                        try:
                            trial = try_setting(setting, calibration, ground, params.tradeoff.seed)
                            keep_trial(trial, kept)
                            print(_line(trial), flush=True)
                        except BudgetError as error:
                            unreachable.append({**asdict(setting), "reason": str(error)})
                    trials += [trial] if trial else []
                    progress.advance(task)
                if calibration:
                    forget_spectra(calibration)
    return trials, unreachable


def _line(trial: Trial) -> str:
    speeds = [f"{trial.facts[name]:.2f}" for name in trial.facts if name.startswith("speedup") and name[-1].isdigit()]
    loss, ratio = trial.facts["predicted_loss"], trial.facts["macs_ratio"]
    return f"{trial.setting.name}  loss {loss:.4f}  {ratio:.2f}x fewer MACs  {', '.join(speeds)}x faster"


def _calibrated(images: int, full: int, params: Params, workspace: Path, inputs: _Inputs) -> Calibration:
    """Read the pipeline's calibration where it is of so many images, else make one."""
    if images == full:
        return load_calibration(workspace / layout.MOMENTS)
    rows = balanced_sample(inputs.train.labels, images, params.calibrate.seed)
    # Mixed over the classes, so that each batch resembles the whole.
    order = np.random.default_rng(0).permutation(rows)
    size = params.calibrate.batch_size
    batches = (to_input(inputs.train.batch(order[start : start + size])[0]) for start in range(0, len(order), size))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*calibration images are few")  # that is what is tried here
        return calibrate(inputs.model, batches, params.calibrate.cells)


def _identity(params: Params, workspace: Path) -> str:
    """Digest of all that a trial depends on: network, moments, images, settings of the clock, and the code."""
    files = [workspace / layout.baseline(params.data.protocol) / "model.safetensors", workspace / layout.MOMENTS]
    files += [workspace / layout.MANIFEST, *sorted(Path(hscc.__file__).parent.rglob("*.py"))]
    grid = params.tradeoff
    key = [params.data.model_dump(), params.calibrate.model_dump(), grid.batches, grid.threads, grid.seconds, grid.seed]
    digests = [file_sha256(file) for file in files]
    return hashlib.sha256(json.dumps([key, digests]).encode()).hexdigest()[:16]


def _write(workspace: Path, document: Mapping[str, Any]) -> None:
    rows = document["rows"]
    columns = None if rows else ["name", "macs_ratio", "speedup_b1", "val_kl"]  # what the plot asks for
    replace_text(workspace / layout.TRADEOFF_JSON, to_json(document))
    replace_text(workspace / layout.TRADEOFF_CSV, to_csv(pd.DataFrame(rows, columns=columns)))


def _show(document: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to fit
    console.print(render_tradeoff(document))
    for claim in document["claims"]:
        console.print(f"{claim['claim']}.\n  {claim['answer']}")
