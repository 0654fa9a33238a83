import pytest

from hscc.errors import ParamsError
from hscc.pipeline.params import named_cell, read_params
from tests.pipeline.committed import FILE, committed


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("hsc-macs6-seed0", "did you mean hscc"),
        ("hscc-6-0", "such as hscc-macs6-seed0"),
        ("hscc-macs6.0-seed0", "is written hscc-macs6-seed0"),
        ("hscc-macs6-seed0-int8", "stage quantise"),
        (6, "such as hscc-macs6-seed0"),
    ],
)
def test_a_wrong_cell_is_refused(name: object, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        committed(compress={"cells": [name]})


def test_a_cell_is_named_once() -> None:
    with pytest.raises(ValueError, match="hscc-macs6-seed0 is named twice"):
        committed(compress={"cells": ["hscc-macs6-seed0", "hscc-macs6-seed1", "hscc-macs6-seed0"]})


def test_cells_keep_their_order_and_their_names() -> None:
    names = ("hscc-macs6-seed1", "global_groups-macs3-seed0", "hscc-macs10-latency7.5-seed0")
    compress = committed(compress={"cells": list(names)}).compress
    assert tuple(cell.name for cell in compress.cells) == names
    assert compress.model_dump()["cells"] == names


def test_the_committed_cells_compare_at_equal_budgets_with_one_seed() -> None:
    cells = read_params(FILE).compress.cells
    methods = {budget: {cell.method for cell in cells if cell.budget == budget} for budget in {c.budget for c in cells}}
    assert {cell.seed for cell in cells} == {0}
    assert len(cells) <= 12  # of two minutes each; more are a sweep
    assert all("tucker_adaptive" in found for budget, found in methods.items() if budget.params is None)


def test_the_name_of_a_cell_is_read_as_in_the_file() -> None:
    assert named_cell("hscc-macs6-seed0").method == "hscc"
    with pytest.raises(ParamsError, match="did you mean hscc"):
        named_cell("hsc-macs6-seed0")
