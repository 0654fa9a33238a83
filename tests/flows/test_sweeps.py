from pathlib import Path

import pytest
import yaml

from flows.parameters import overrides
from flows.sweeps import CellGrid, Sweep, overrides_of, read_sweeps, run, sweep_names
from hscc.errors import ParamsError
from hscc.methods import CONTROLS
from hscc.pipeline import layout
from hscc.pipeline.cell_spec import first_seeds, parse_cell
from tests.pipeline.committed import committed

ROOT = Path(__file__).parents[2]
FILE = ROOT / "sweeps.yaml"


def test_a_grid_is_all_combinations_budget_by_budget() -> None:
    grid = CellGrid(("tucker", "hscc"), ("macs3", "macs6-latency4.5"), (0, 1))
    names = grid.names()
    assert len(names) == len(set(names)) == 8
    assert names[:4] == ["tucker-macs3-seed0", "tucker-macs3-seed1", "hscc-macs3-seed0", "hscc-macs3-seed1"]
    assert Sweep((grid, grid)).overrides()["compress.cells"] == names  # a name twice would be two stages of one name


@pytest.mark.parametrize("name", sweep_names(FILE))
def test_every_committed_sweep_makes_valid_parameters(name: str, tmp_path: Path) -> None:
    changed = overrides_of(name, FILE)
    cells = changed.pop("compress.cells")
    assert [parse_cell(cell).name for cell in cells] == cells
    sections: dict[str, dict[str, object]] = {"compress": {"cells": cells}}
    for dotted, value in changed.items():
        section, key = dotted.split(".")
        sections.setdefault(section, {})[key] = value
    assert [spec.name for spec in committed(**sections).compress.cells] == cells


def test_the_evidence_has_seeds_controls_and_the_trade_off() -> None:
    changed = overrides_of("evidence", FILE)
    specs = [parse_cell(cell) for cell in changed["compress.cells"]]
    assert {spec.method for spec in specs} >= CONTROLS | {"hscc", "tucker_adaptive"}
    assert {spec.seed for spec in specs if spec.method == "hscc"} == {0, 1, 2}
    assert changed["tradeoff.enabled"] is True
    counted = [spec for spec in specs if not spec.timed]
    budgets = {
        method: tuple(spec.budget for spec in first_seeds(counted) if spec.method == method)
        for method in {spec.method for spec in counted}
    }
    assert len(set(budgets.values())) == 1  # every method at the same budgets
    assert {spec.seed for spec in specs if spec.method in CONTROLS} == {0}


def test_cells_and_protocol_of_a_run_go_before_those_of_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    changed = overrides(["hscc-macs4-seed0"], "pooled", "tradeoff")
    assert changed["compress.cells"] == ["hscc-macs4-seed0"]
    assert changed["data.protocol"] == "pooled" and changed["train.protocols"] == ["pooled"]
    assert changed["tradeoff.enabled"] is True


@pytest.mark.parametrize("text", [None, "- 1\n", "evidence: {cells: [{methods: [hscc]}]}\n", "evidence: [\n"])
def test_a_file_of_no_sweeps_is_refused(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "sweeps.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ParamsError, match=r"sweeps\.yaml"):
        read_sweeps(path)
    assert sweep_names(path) == []


def test_a_sweep_that_is_none_is_named() -> None:
    with pytest.raises(ParamsError, match="evidence"):
        overrides_of("evidenze", FILE)


def test_what_has_been_run_is_copied_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    for name in ("results.json", "figures/pareto.svg", "report.html", "evidence/results.json", "evidence/bench.json"):
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (kept / name).write_text("{}")
    (tmp_path / "sweeps.yaml").write_text(
        yaml.safe_dump({"few": {"cells": [{"methods": ["hscc"], "budgets": ["macs3"]}]}})
    )
    monkeypatch.setattr("flows.pipeline.name_of", lambda *_: "sweep-0")
    monkeypatch.setattr("flows.pipeline.kept_reports", lambda *_: kept)
    monkeypatch.chdir(tmp_path)
    folder = run(tmp_path, "few")
    assert folder == layout.sweep_reports("few")
    copied = {str(file.relative_to(tmp_path / folder)) for file in (tmp_path / folder).rglob("*") if file.is_file()}
    assert copied == {"results.json", "figures/pareto.svg"}  # no slices, and not what another sweep left there
