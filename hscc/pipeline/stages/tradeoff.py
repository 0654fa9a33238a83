"""Stage tradeoff: the baseline, its moments and validation images in; the structure grid, without fine-tuning, out.

Which part of regions x clusters x budget x calibration size is run: on the full calibration every combination of
regions and clusters and every method that chooses by itself, each at every budget; on smaller calibrations, made here
from subsets of the same draw, the coarsest, the middle and the finest combination at the middle budget.
Hyper-parameters are compared here, so the test split is not read.

Run it on a machine that does nothing else: it takes times.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.progress import Progress
from torch import nn

from hscc.calibration.collect import Calibration, calibrate
from hscc.calibration.storage import load_calibration
from hscc.errors import ArtifactError, BudgetError
from hscc.files import file_sha256, replace_text
from hscc.networks.cost import count_macs, count_parameters
from hscc.networks.storage import load_dense
from hscc.pipeline import layout
from hscc.pipeline.code_identity import stage_code
from hscc.pipeline.data.loading import balanced_sample, read_splits
from hscc.pipeline.data.manifest import read_manifest
from hscc.pipeline.params import Params
from hscc.pipeline.provenance import machine, versions
from hscc.pipeline.report.renderings import to_rich
from hscc.pipeline.report.tables.structure_tables import settings_note, settings_table
from hscc.pipeline.statistics.bootstrap import bootstrap_weights
from hscc.pipeline.statistics.results import frame, to_csv
from hscc.pipeline.statistics.schema import Machine, write_record
from hscc.pipeline.statistics.structure_claims import judge
from hscc.pipeline.statistics.structure_grid import Trial, full_grid, reduced_grid, score_logits, score_trial, tabulate
from hscc.pipeline.statistics.structure_schema import DenseCosts, Setting, SpeedNoise, StructureGrid, Unreachable
from hscc.pipeline.statistics.structure_trials import (
    Clock,
    DenseReference,
    load_trial,
    save_trial,
    try_setting,
)
from hscc.pipeline.tracking import data_hash, git_commit, stage_run
from hscc.training.images import Split, to_input

_WIDE = 130  # columns
_TRACKED = ("val_kl", "val_score", "predicted_loss", "macs_ratio", "params_ratio")
_PLOTTED = ("macs_ratio", "speedup_b1", "val_kl")  # by dvc.yaml


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
    if not settings.enabled:
        _write(workspace, _document(params, workspace))
        return
    inputs = _read(params, workspace)
    with stage_run("tradeoff", protocol, settings.model_dump(), {"protocol": protocol}, workspace) as tracked:
        grid = _tried(params, workspace, inputs, workspace / layout.TRIALS / _identity(params, workspace))
        table = _write(workspace, grid)
        shutil.rmtree(workspace / layout.TRIALS)
        tracked.metrics({f"{row['name']}.{name}": row[name] for _, row in table.iterrows() for name in _TRACKED})
        tracked.artifact(workspace / layout.TRADEOFF_JSON)
    _show(grid)


def _read(params: Params, workspace: Path) -> _Inputs:
    protocol = params.data.protocol
    model, card = load_dense(workspace / layout.baseline(protocol) / "model.safetensors")
    manifest = read_manifest(workspace / layout.MANIFEST)
    train, val = read_splits(manifest, card, protocol, workspace)
    moments = workspace / layout.MOMENTS
    if not moments.is_file():
        raise ArtifactError(f"{moments} does not exist; run `hscc calibrate` first.")
    return _Inputs(model, train, val, manifest["group"].to_numpy(np.int64)[val.rows])


def _document(params: Params, workspace: Path) -> StructureGrid:
    """Where the grid comes from, without rows."""
    settings = params.tradeoff
    return StructureGrid(
        protocol=params.data.protocol,
        score=params.evaluate.score,
        data_hash=data_hash(workspace),
        git_commit=git_commit(workspace),
        enabled=settings.enabled,
        command="dvc repro tradeoff",
        seed=settings.seed,
        resamples=settings.resamples,
        images=0,
        calibration=0,
        batches=tuple(sorted(settings.batches)),
        threads=settings.threads,
        machine=Machine(**machine()),
        versions=versions(),
        clock={},
        dense=None,
        rows=(),
        unreachable=(),
        claims=(),
    )


def _tried(params: Params, workspace: Path, inputs: _Inputs, saved: Path) -> StructureGrid:
    settings, val = params.tradeoff, inputs.val
    clock = Clock(tuple(sorted(settings.batches)), settings.threads, settings.seconds)
    dense = DenseReference(inputs.model, np.ascontiguousarray(val.images[val.rows]), clock, val.normalisation)
    grids = _grids(params, inputs.train)
    images = max(grids)
    trials, unreachable = _try_all(grids, params, workspace, inputs, dense, saved)
    noise = dense.times(dense.graph)
    weights = bootstrap_weights(inputs.groups, settings.resamples, settings.seed)
    scored = [score_trial(trial, dense.logits, val.labels, weights, params.evaluate.score) for trial in trials]
    scored.sort(key=lambda each: (-each.setting.images, each.setting.budget_macs))
    return _document(params, workspace).model_copy(
        update={
            "images": len(val),
            "calibration": images,
            "clock": {f"b{batch}": SpeedNoise(**asdict(timing.speedup)) for batch, timing in noise.items()},
            "dense": DenseCosts(
                macs=count_macs(inputs.model, tuple(to_input(dense.images[:1], val.normalisation).shape[1:])),
                params=count_parameters(inputs.model),
                val_score=score_logits(dense.logits, val.labels, weights, params.evaluate.score).estimate(),
                latency_ms={f"b{batch}": timing.dense_ms.median for batch, timing in noise.items()},
            ),
            "rows": tuple(tabulate(scored, images)),
            "unreachable": tuple(unreachable),
            "claims": tuple(judge(scored, images, clock.batches)),
        }
    )


def _grids(params: Params, train: Split) -> dict[int, list[list[Setting]]]:
    """Settings by the number of calibration images, the full calibration first."""
    grid = params.tradeoff
    full = len(balanced_sample(train.labels, params.calibrate.images, params.calibrate.seed))
    grids = {full: full_grid(grid.regions, grid.clusters, grid.searched, grid.budgets, full)}
    for images in sorted(grid.calibrations, reverse=True):
        if images < full:  # a training split may have fewer images than calibrate.images
            grids[images] = reduced_grid(grid.regions, grid.clusters, grid.budgets, images)
    return grids


def _try_all(
    grids: Mapping[int, list[list[Setting]]],
    params: Params,
    workspace: Path,
    inputs: _Inputs,
    dense: DenseReference,
    saved: Path,
) -> tuple[list[Trial], list[Unreachable]]:
    """Try what is not saved by a killed run; structures that cannot reach their budget are listed apart."""
    trials: list[Trial] = []
    unreachable: list[Unreachable] = []
    total = sum(len(settings) for structures in grids.values() for settings in structures)
    with Progress(transient=True) as progress:
        task = progress.add_task("trying settings", total=total)
        for images, structures in grids.items():
            calibration: Calibration | None = None
            for settings in structures:
                for setting in settings:
                    progress.update(task, description=setting.name)
                    trial = load_trial(setting, saved)
                    if trial is None:
                        calibration = calibration or _calibrated(images, max(grids), params, workspace, inputs)
                        try:
                            trial = try_setting(setting, calibration, dense, params.tradeoff.seed)
                            save_trial(trial, saved)
                            print(_line(trial), flush=True)
                        except BudgetError as error:
                            unreachable.append(Unreachable(**dict(setting), reason=str(error)))
                    trials += [trial] if trial else []
                    progress.advance(task)
                if calibration:
                    calibration.cache.forget_spectra()
    return trials, unreachable


def _line(trial: Trial) -> str:
    costs = trial.costs
    speeds = ", ".join(f"{timing.speedup:.2f}" for timing in costs.timings)
    return (
        f"{trial.setting.name}  loss {costs.predicted_loss:.4f}  {costs.macs_ratio:.2f}x fewer MACs  {speeds}x faster"
    )


def _calibrated(images: int, full: int, params: Params, workspace: Path, inputs: _Inputs) -> Calibration:
    """Read the pipeline's calibration where it is of so many images, else make one."""
    if images == full:
        return load_calibration(workspace / layout.MOMENTS)
    rows = balanced_sample(inputs.train.labels, images, params.calibrate.seed)
    # Mixed over the classes, so that each batch resembles the whole.
    order = np.random.default_rng(0).permutation(rows)
    size = params.calibrate.batch_size
    batches = (
        to_input(inputs.train.batch(order[start : start + size])[0], inputs.train.normalisation)
        for start in range(0, len(order), size)
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*calibration images are few")  # that is what is tried here
        return calibrate(inputs.model, batches, params.calibrate.cells)


def _identity(params: Params, workspace: Path) -> str:
    """Digest of all that a trial depends on: network, moments, images, how times are taken, and the code."""
    files = [workspace / layout.baseline(params.data.protocol) / "model.safetensors", workspace / layout.MOMENTS]
    files.append(workspace / layout.MANIFEST)
    grid = params.tradeoff
    key = [params.data.model_dump(), params.calibrate.model_dump(), grid.batches, grid.threads, grid.seconds, grid.seed]
    digests = [file_sha256(file) for file in files]
    code = stage_code("tradeoff", params.plugins)
    return hashlib.sha256(json.dumps([key, digests, code]).encode()).hexdigest()[:16]


def _write(workspace: Path, grid: StructureGrid) -> pd.DataFrame:
    table = frame(grid.rows) if grid.rows else pd.DataFrame(columns=list(_PLOTTED))
    table.insert(0, "name", [row.name for row in grid.rows])
    replace_text(workspace / layout.TRADEOFF_JSON, write_record(grid))
    replace_text(workspace / layout.TRADEOFF_CSV, to_csv(table))
    return table


def _show(grid: StructureGrid) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _WIDE  # a pipe has no width to fit
    console.print(to_rich(settings_table(grid), settings_note(grid)))
    for claim in grid.claims:
        console.print(f"{claim.claim}.\n  {claim.answer}")
