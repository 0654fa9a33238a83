from pathlib import Path

import pytest
import yaml

from hscc.pipeline.params import Params

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("cell", ["hscc-5", "hscc_timed", "hscc_timed-1", "nobody_fast-6"])
def test_a_timed_cell_names_a_method_a_clock_and_a_ratio(cell: str) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["compress"]["timed"] = [cell]
    with pytest.raises(ValueError, match=cell.split("-")[0]):
        Params.model_validate(values)


def test_cells_are_the_sweep_and_the_timed_ones() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["compress"] |= {"methods": ["hscc"], "budgets": [3, 6], "timed": ["hscc_fast-10"], "seeds": [0, 1]}
    values["compress"]["controls"] = ["global_groups"]
    assert Params.model_validate(values).compress.cells == [
        *(("hscc", 3.0, 0), ("hscc", 3.0, 1), ("hscc", 6.0, 0), ("hscc", 6.0, 1)),
        *(("hscc_fast", 10.0, 0), ("hscc_fast", 10.0, 1)),
        *(("global_groups", 3.0, 0), ("global_groups", 6.0, 0)),
    ]


def test_a_method_is_compared_or_a_control() -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["compress"]["controls"] = values["compress"]["methods"][:1]
    with pytest.raises(ValueError, match="both in methods and in controls"):
        Params.model_validate(values)
