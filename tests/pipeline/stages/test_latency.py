"""The stage that plans within latency budgets, with plans that are made without timing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from hscc.api import plan
from hscc.budgets.budget import Budget
from hscc.budgets.latency_table import LatencyTable
from hscc.calibration.collect import Calibration, calibrate
from hscc.methods import GlobalSVD
from hscc.pipeline import layout
from hscc.pipeline.params import Params
from hscc.pipeline.stages import latency
from hscc.plans import Plan
from tests.pipeline.committed import committed
from tests.tiny import tiny_images, tiny_network

CELLS = ("hscc-macs3-seed0", "hscc-latency2-seed0", "hscc-latency2-seed1", "hscc-macs3-latency2.25-seed0")


def params(*cells: str, batch: int = 1) -> Params:
    return committed(compress={"cells": cells}, latency={"batches": [batch], "threads": 1})


@pytest.fixture
def planned(empty_store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Budget]:
    """Budgets that were planned for, in order; `tmp_path` becomes a workspace."""
    network = tiny_network()
    calibration = calibrate(network, tiny_images().split(16), cells=2)
    budgets: list[Budget] = []

    def fake(model: Any, moments: Calibration, method: Any, budget: Budget, seed: int, table: LatencyTable) -> Plan:
        budgets.append(budget)
        return plan(network, calibration, GlobalSVD(), Budget(macs=2, only=True), seed)

    monkeypatch.setattr(latency, "load_dense", lambda path: (network, None))
    monkeypatch.setattr(latency, "load_calibration", lambda path: calibration)
    monkeypatch.setattr(latency, "plan", fake)
    shutil.copy(empty_store, tmp_path)
    moments = tmp_path / layout.MOMENTS
    moments.parent.mkdir(parents=True)
    moments.write_text("moments")
    return budgets


def plans(workspace: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in (workspace / layout.LATENCY / "plans").iterdir()}


def test_every_cell_gets_a_file_and_all_seeds_the_plan_of_the_first(tmp_path: Path, planned: list[Budget]) -> None:
    latency.run(params(*CELLS), tmp_path)
    assert planned == [Budget(latency=2), Budget(macs=3, latency=2.25)]
    assert LatencyTable.load(tmp_path / layout.LATENCY_TABLE).batches == (1,)
    found = plans(tmp_path)
    assert found.keys() == set(CELLS)
    assert json.loads(found["hscc-macs3-seed0"]) is None
    assert found["hscc-latency2-seed0"] == found["hscc-latency2-seed1"]
    read = Plan.from_json(found["hscc-macs3-latency2.25-seed0"])
    assert read.macs <= read.dense_macs / 2 and not read.weights


def test_a_new_cell_does_not_time_the_others_again(tmp_path: Path, planned: list[Budget]) -> None:
    latency.run(params(*CELLS), tmp_path)
    before = plans(tmp_path)
    planned.clear()
    latency.run(params(*CELLS[:3], "tucker-macs3-seed0", "tucker-latency4-seed0"), tmp_path)
    assert planned == [Budget(latency=4)]
    after = plans(tmp_path)
    assert after.keys() == {*CELLS[:3], "tucker-macs3-seed0", "tucker-latency4-seed0"}
    assert all(after[name] == before[name] for name in CELLS[:3])


@pytest.mark.parametrize("change", ["moments", "settings", "code"])
def test_other_inputs_time_all_again(tmp_path: Path, planned: list[Budget], change: str) -> None:
    latency.run(params(*CELLS), tmp_path)
    if change == "moments":
        (tmp_path / layout.MOMENTS).write_text("others")
    if change == "code":
        (tmp_path / layout.code("latency")).parent.mkdir()
        (tmp_path / layout.code("latency")).write_text("{}")
    latency.run(params(*CELLS, batch=2 if change == "settings" else 1), tmp_path)
    assert len(planned) == 4


def test_without_a_latency_nothing_is_read(tmp_path: Path) -> None:
    latency.run(params("hscc-macs3-seed0"), tmp_path)
    assert plans(tmp_path) == {"hscc-macs3-seed0": "null\n"}
