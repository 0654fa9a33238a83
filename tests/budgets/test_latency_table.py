"""Milliseconds as a cost: a table that is measured once, and plans that keep to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from hscc.api import plan
from hscc.budgets import latency_table as latency
from hscc.budgets import refinement as clock
from hscc.budgets.budget import Budget
from hscc.budgets.latency_table import Latency, LatencyTable, Line, new_table, structure_key
from hscc.calibration.collect import Calibration
from hscc.calibration.layers import Layer
from hscc.errors import ArtifactError, BudgetError
from hscc.methods import HSCC, AdaptiveTucker, GlobalSVD, Tucker
from hscc.structures.base import Structure, whole_tiles
from hscc.structures.dense import DENSE
from hscc.structures.low_rank import Block, LowRank, Region
from hscc.timing.runtimes import RUNTIMES, usable_runtimes


def whole(layer: Layer, rank: int = 0) -> LowRank:
    return LowRank(1, (Region(whole_tiles(2), (Block(tuple(range(layer.inputs)), rank),)),))


class CountedTable(LatencyTable):
    """A table whose clock counts MACs: a microsecond each."""

    def measure(self, wanted: Sequence[tuple[Layer, Structure]]) -> None:
        for layer, structure in wanted:
            fixed, per_rank = float(layer.macs), 0.0
            if isinstance(structure, LowRank):
                inner = structure.projected_layer(layer)
                fixed = structure.projection_macs(layer) + 0.5
                per_rank = layer.positions * (inner.features / len(structure.regions[0].blocks) + layer.outputs)
            for batch in self.batches:
                line = Line(fixed * batch * 1e-3, per_rank * batch * 1e-3)
                self.lines.setdefault(batch, {})[structure_key(layer, structure)] = line


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> CountedTable:
    return CountedTable("a machine", 1, (1, 4))


@pytest.mark.parametrize("runtime", usable_runtimes(list(RUNTIMES)))
def test_a_measured_table_is_kept_and_read_again(calibration: Calibration, tmp_path: Path, runtime: str) -> None:
    layer = calibration.layers[1]
    table = new_table(threads=1, batches=(1,), runtime=runtime)
    assert runtime in table.machine and table.runtime == runtime
    line = table.line(layer, whole(layer), 1)
    assert line.per_rank >= 0 and line.fixed >= 0 and line.fixed + line.per_rank > 0
    table.save(tmp_path / "table.json")
    read = LatencyTable.load(tmp_path / "table.json")
    assert read == table
    assert read.line(layer, whole(layer, 8), 1) == line  # the same structure at another rank is not measured anew


def test_a_table_that_names_no_runtime_is_of_onnx_runtime(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    new_table(runtime="onnxruntime").save(path)
    content = json.loads(path.read_text())
    del content["runtime"]
    path.write_text(json.dumps(content))
    assert LatencyTable.load(path).runtime == "onnxruntime"


def test_the_key_is_of_what_time_depends_on(calibration: Calibration) -> None:
    layer = calibration.layers[1]
    assert structure_key(layer, whole(layer, 3)) == structure_key(replace(layer, name="other"), whole(layer, 9))
    assert structure_key(layer, whole(layer)) != structure_key(layer, DENSE)
    assert structure_key(layer, whole(layer)) != structure_key(layer, replace(whole(layer), projection=4))
    assert structure_key(layer, whole(layer)) != structure_key(replace(layer, outputs=8), whole(layer))


def test_a_table_of_another_machine_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    new_table().save(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "machine": "an abacus"}))
    with pytest.raises(ArtifactError, match=r"table\.json was measured on an abacus"):
        LatencyTable.load(path)
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="not a latency table"):
        LatencyTable.load(path)


def test_milliseconds_add_up_over_regions(calibration: Calibration) -> None:
    layer = calibration.layers[1]
    table = new_table(batches=(1,))
    halves = tuple(Region(((row, row + 2, 0, 4),), (Block(tuple(range(layer.inputs)), 8),)) for row in (0, 2))
    structure = LowRank(4, halves)
    table.lines = {1: {structure_key(layer, structure): Line(2.0, 0.1)}}
    model = Latency(table, 1)
    assert model.of_structure(layer, structure) == pytest.approx(2.0 + 0.1 * 8)
    assert sum(model.of_rank(layer, structure, r, r.blocks[0]) for r in halves) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("ranks", "milliseconds", "expected"),
    [((16, 32, 64), (2.6, 4.2, 7.4), (1.0, 0.1)), ((16, 64), (5.0, 4.0), (4.5, 0.0)), ((10, 20), (1, 3), (0.0, 0.12))],
)
def test_a_line_is_never_negative(ranks, milliseconds, expected) -> None:
    line = latency.fit_line(ranks, milliseconds, 0.0)
    assert (line.fixed, line.per_rank) == pytest.approx(expected, rel=1e-6)


class Clock:
    """Stands for the clock: the network takes `slow` times what the table says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slow: float) -> None:
        self.rounds: list[float] = []

        def start(model: nn.Module, shape: tuple[int, ...], table: LatencyTable) -> clock.DenseTimer:
            return clock.DenseTimer({}, {batch: self.dense(batch) for batch in table.batches})

        def keep(watch, network, shape, table):
            spent = sum(Latency(table, 1).of_structure(e.layer, e.structure) for e in network.hscc_plan.layers)
            self.rounds.append(self.dense(1) / (spent * slow))
            return {batch: self.rounds[-1] for batch in table.batches}

        monkeypatch.setattr(clock, "time_dense", start)
        monkeypatch.setattr(clock, "speedups", keep)
        monkeypatch.setattr(Latency, "rank_multiple", 4)  # the tiny layers have no use for 16
        self.layers: list[Layer] = []

    def dense(self, batch: int) -> float:
        return sum(layer.macs for layer in self.layers) * batch * 1e-3


@pytest.mark.parametrize("slow", [0.85, 1.0, 1.2])
def test_a_budget_of_time_is_met_on_the_clock(
    calibration: Calibration, network: nn.Module, counted: CountedTable, monkeypatch: pytest.MonkeyPatch, slow: float
) -> None:
    watch = Clock(monkeypatch, slow)
    watch.layers = calibration.layers
    made = plan(
        network, calibration, HSCC(regions=(1, (2, 1)), clusters=1, rank_multiple=1), Budget(latency=3), latency=counted
    )
    assert set(made.timed) == {"batch 1", "batch 4"}
    assert all(speedup >= 3 for speedup in made.timed.values())
    if slow != 1.0:
        assert len(watch.rounds) > 1 and abs(watch.rounds[-1] - 3) <= abs(watch.rounds[0] - 3)


def test_under_a_budget_of_time_hscc_is_never_worse_than_global_svd(
    calibration: Calibration, network: nn.Module, counted: CountedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, 1.0).layers = calibration.layers
    losses = [
        plan(network, calibration, method, Budget(latency=2.5), latency=counted).loss
        for method in (HSCC(), AdaptiveTucker(), GlobalSVD(adaptive=True))
    ]
    assert losses == sorted(losses)


def test_macs_and_time_hold_together(
    calibration: Calibration, network: nn.Module, counted: CountedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, 1.0).layers = calibration.layers
    made = plan(network, calibration, HSCC(regions=(1, (2, 1)), clusters=1), Budget(macs=3, latency=2), latency=counted)
    assert made.macs <= made.dense_macs / 3 and min(made.timed.values()) >= 2
    assert made.from_json(made.to_json()).timed == made.timed


def test_clusters_share_their_rank_where_time_counts(
    calibration: Calibration, network: nn.Module, counted: CountedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, 1.0).layers = calibration.layers
    method = HSCC(regions=1, clusters=2, projection=None)
    made = plan(network, calibration, method, Budget(latency=2), latency=counted)
    factored = [entry.structure for entry in made.layers if entry.layer.taps > 1]
    factored = [each for each in factored if isinstance(each, LowRank) and len(each.regions) == 1]
    assert any(len(structure.regions[0].blocks) == 2 for structure in factored)
    assert all(len({block.rank for block in structure.regions[0].blocks}) == 1 for structure in factored)


def test_what_cannot_be_reached_is_refused(
    calibration: Calibration, network: nn.Module, counted: CountedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    Clock(monkeypatch, 1.0).layers = calibration.layers
    with pytest.raises(BudgetError, match=r"900x faster cannot be reached .* ms of latency at batch 1"):
        plan(network, calibration, HSCC(), Budget(latency=900), latency=counted)
    with pytest.raises(BudgetError, match="cannot be held to measured times"):
        plan(network, calibration, Tucker(), Budget(latency=2), latency=counted)
