"""The stage that plans on the clock, with a clock that stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hscc.api import plan
from hscc.budgets.budget import Budget
from hscc.budgets.latency_table import LatencyTable
from hscc.calibration.collect import Calibration, calibrate
from hscc.errors import ArtifactError
from hscc.methods import HSCC
from hscc.pipeline import layout
from hscc.pipeline.params import CompressParams, DataParams, LatencyParams, Params
from hscc.pipeline.stages import latency
from tests.tiny import tiny_images, tiny_network

PARAMS = Params.model_construct(
    data=DataParams(),
    compress=CompressParams(methods=("hscc",), budgets=(3,), timed=("hscc_timed-2", "hscc_fast-3")),
    latency=LatencyParams(batches=(1,), threads=1),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Budget]:
    network = tiny_network()
    calibration = calibrate(network, tiny_images().split(16), cells=2)
    budgets: list[Budget] = []

    def planned(model: Any, moments: Calibration, method: Any, budget: Budget, seed: int, table: LatencyTable) -> Any:
        budgets.append(budget)
        return plan(network, calibration, HSCC(rank_multiple=1), Budget(macs=2), seed)

    monkeypatch.setattr(latency, "load_dense", lambda path: (network, None))
    monkeypatch.setattr(latency, "load_calibration", lambda path: calibration)
    monkeypatch.setattr(latency, "plan", planned)
    return budgets


def test_each_timed_cell_is_planned_for_its_goal(tmp_path: Path, asked: list[Budget]) -> None:
    latency.run(PARAMS, tmp_path)
    assert asked == [Budget(latency=2), Budget(macs=3, latency=2.25)]
    assert LatencyTable.load(tmp_path / layout.LATENCY_TABLE).batches == (1,)
    read = latency.read_timed_plan(tmp_path, "hscc_fast", 3, 0)
    assert read.macs <= read.dense_macs / 2 and not read.weights


def test_a_plan_that_was_not_made_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"add hscc_timed-5 to compress\.timed in params\.yaml and run `hscc latency`"
    ):
        latency.read_timed_plan(tmp_path, "hscc_timed", 5, 0)
