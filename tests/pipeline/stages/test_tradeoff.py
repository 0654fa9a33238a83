"""The stage on a handful of drawn images, with its real files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hscc.calibration.collect import Calibration, calibrate
from hscc.calibration.storage import save_calibration
from hscc.errors import ArtifactError, BudgetError
from hscc.networks.backbones import build
from hscc.networks.storage import ModelCard, save_dense
from hscc.pipeline import layout
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.stages import tradeoff
from hscc.pipeline.statistics.structure_grid import Trial
from hscc.pipeline.statistics.structure_schema import Setting, read_structure_grid
from hscc.pipeline.statistics.structure_trials import DenseReference, try_setting
from hscc.training.images import to_input
from tests.pipeline.committed import committed

SIDE, TRAIN, CELLS = 32, 32, 2
PARAMS = committed(
    data={"image_size": SIDE},
    calibrate={"images": TRAIN, "cells": CELLS, "batch_size": 16},
    tradeoff={
        "enabled": True,
        "regions": [2, 1], "clusters": [1], "searched": [], "budgets": [1.5], "calibrations": [16], "batches": [1],
        "threads": 1, "seconds": 0.01, "resamples": 100,
    },
)  # fmt: skip
GRID = PARAMS.tradeoff


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace before the stage."""
    root = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (TRAIN + 12, SIDE, SIDE), dtype=np.uint8)
    rows = []
    for index, image in enumerate(pixels):
        path = root / layout.DATA / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        rows.append(_row(path.name, CLASSES[index % 4], f"{index:064x}", "train" if index < TRAIN else "val", index))
    (root / "artifacts").mkdir()
    pd.DataFrame(rows).to_csv(root / layout.MANIFEST, index=False)
    model = build("smallcnn", 4).eval()
    card = ModelCard("smallcnn", CLASSES, SIDE, "grouped", 0)
    save_dense(model, card, root / layout.baseline("grouped") / "model.safetensors")
    save_calibration(calibrate(model, to_input(pixels[:TRAIN]).split(16), CELLS), root / layout.MOMENTS)
    return root


def _row(path: str, label: str, digest: str, split: str, group: int) -> dict[str, object]:
    return {
        "path": path, "label": label, "official_split": "Training", "width": SIDE, "height": SIDE, "mode": "L",
        "bytes": 1, "sha256": digest, "phash": "0" * 16, "decodable": True, "group": group, "conflict": False,
        "split_grouped": split, "split_pooled": split, "split_official": split,
    }  # fmt: skip


@pytest.fixture(scope="module")
def killed(inputs: Path, empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A workspace in which the stage was killed at its second setting and then run again; what the second run tried.

    The last setting's budget is out of its reach.
    """
    workspace = tmp_path_factory.mktemp("killed") / "workspace"
    shutil.copytree(inputs, workspace)
    shutil.copy(empty_store, workspace)
    tried: list[str] = []

    def watched(setting: Setting, calibration: Calibration, dense: DenseReference, seed: int) -> Trial:
        tried.append(setting.name)
        if len(tried) == 2:
            raise KeyboardInterrupt
        if setting.name == "2x1-1.5-16":
            raise BudgetError("1.5x fewer MACs cannot be reached.")
        return try_setting(setting, calibration, dense, seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tradeoff, "try_setting", watched)
        with pytest.raises(KeyboardInterrupt):
            tradeoff.run(PARAMS, workspace)
        assert not (workspace / layout.TRADEOFF_JSON).exists()
        tradeoff.run(PARAMS, workspace)
    return workspace, tried[2:]


def test_a_killed_run_goes_on_where_it_was(killed: tuple[Path, list[str]]) -> None:
    workspace, tried = killed
    assert tried == ["2x1-1.5-32", "1x1-1.5-16", "2x1-1.5-16"]
    assert not (workspace / layout.TRIALS).exists()  # nothing is left to be taken for a later run's


def test_the_stage_writes_what_the_graph_names(killed: tuple[Path, list[str]]) -> None:
    workspace, _ = killed
    grid = read_structure_grid(workspace / layout.TRADEOFF_JSON)
    assert (grid.protocol, grid.images, grid.calibration) == ("grouped", 12, TRAIN)
    assert [row.name for row in grid.rows] == ["1x1-1.5-32", "2x1-1.5-32", "1x1-1.5-16"]
    for row in grid.rows:
        assert row.macs_ratio >= row.budget_macs
        assert row.val_kl.value >= 0
        assert row.timing(1).ms > 0
    assert any(row.on_front for row in grid.rows)
    assert not any(row.on_front for row in grid.rows if row.images < TRAIN)
    assert grid.clock["b1"].median > 0
    assert grid.dense is not None and grid.dense.latency_ms["b1"] > 0
    (missing,) = grid.unreachable
    assert (missing.regions, missing.images) == (2, 16)
    assert "cannot be reached" in missing.reason
    table = pd.read_csv(workspace / layout.TRADEOFF_CSV)
    assert {"name", "speedup_b1", "val_kl"} <= set(table)
    assert len(table) == 3


def test_switched_off_it_writes_no_rows_and_reads_nothing(tmp_path: Path) -> None:
    off = PARAMS.model_copy(update={"tradeoff": GRID.model_copy(update={"enabled": False})})
    tradeoff.run(off, tmp_path)
    grid = read_structure_grid(tmp_path / layout.TRADEOFF_JSON)
    assert (grid.rows, grid.claims, grid.enabled) == ((), (), False)
    assert "val_kl" in pd.read_csv(tmp_path / layout.TRADEOFF_CSV)


def test_without_moments_earlier_results_stay(inputs: Path, tmp_path: Path) -> None:
    shutil.copytree(inputs, tmp_path / "w")
    (tmp_path / "w" / layout.MOMENTS).unlink()
    (tmp_path / "w" / "reports").mkdir()
    (tmp_path / "w" / layout.TRADEOFF_JSON).write_text("earlier")
    with pytest.raises(ArtifactError, match="hscc calibrate"):
        tradeoff.run(PARAMS, tmp_path / "w")
    assert (tmp_path / "w" / layout.TRADEOFF_JSON).read_text() == "earlier"
