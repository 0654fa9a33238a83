"""Cell specs: one reader and one writer of their names."""

from __future__ import annotations

import pytest

from hscc.budgets.budget import Budget
from hscc.budgets.resources import RESOURCES
from hscc.errors import ParamsError
from hscc.pipeline.cell_spec import CellSpec, first_seeds, parse_cell


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("hscc-macs6-seed0", CellSpec("hscc", Budget(macs=6))),
        ("global_svd_adaptive-latency7.5-seed2", CellSpec("global_svd_adaptive", Budget(latency=7.5), 2)),
        ("tucker-macs10-params2-latency3-seed1", CellSpec("tucker", Budget(macs=10, params=2, latency=3), 1)),
        ("hscc-macs6-only-seed0", CellSpec("hscc", Budget(macs=6, only=True))),
        ("hscc-macs6-seed0-int8", CellSpec("hscc", Budget(macs=6)).int8),
    ],
)
def test_what_is_written_is_read(name: str, cell: CellSpec) -> None:
    assert cell.name == name
    assert parse_cell(name) == cell
    assert cell.timed == ("latency" in name)


@pytest.mark.parametrize(
    "name", ["", "hscc", "hscc-6-0", "hscc-macs6", "hscc-seed0", "-macs6-seed0", "hscc-time6-seed0"]
)
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(ParamsError, match="such as hscc-macs6-seed0"):
        parse_cell(name)


@pytest.mark.parametrize(("name", "fault"), [("hscc-macs1-seed0", "above 1"), ("hscc-macs2-macs3-seed0", "twice")])
def test_a_budget_that_makes_no_sense_is_refused(name: str, fault: str) -> None:
    with pytest.raises(ParamsError, match=fault):
        parse_cell(name)


def test_the_first_seed_is_the_lowest_of_a_method_and_budget() -> None:
    names = ["hscc-macs6-seed2", "hscc-macs6-seed1", "hscc-macs3-seed4", "tucker-macs6-seed0", "hscc-macs3-seed5"]
    kept = first_seeds([parse_cell(name) for name in names])
    assert [cell.name for cell in kept] == ["hscc-macs6-seed1", "hscc-macs3-seed4", "tucker-macs6-seed0"]


def test_a_name_drops_no_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESOURCES, "bytes", RESOURCES["params"])
    assert CellSpec("hscc", Budget(bytes=3, macs=6)).name == "hscc-macs6-bytes3-seed0"
