from __future__ import annotations

import io

import pytest
from rich.console import Console

from hscc.pipeline.report.renderings import to_markdown, to_rich
from hscc.pipeline.report.table import (
    NOTHING,
    Column,
    Line,
    Table,
    asked_columns,
    cells_of,
    chance,
    columns_of,
    difference,
    figure,
    signed_figure,
    with_error,
    with_interval,
    with_spread,
    words,
)
from hscc.pipeline.statistics.schema import Estimate

from .documents import around, network

TABLE = Table(
    "caption", "network", (Column("figure"), Column("note")),
    (Line("a|b", (figure(1.5, 1, aside="± 0.2"), words("yes"))), Line("c", (NOTHING, words("no")))),
)  # fmt: skip


def test_an_unknown_figure_is_an_empty_cell() -> None:
    unknown = Estimate(value=None)
    for cell in (figure(None), with_error(unknown), with_interval(unknown), with_spread(None, None), chance(None)):
        assert cell is NOTHING
    assert difference(None) is NOTHING and difference(unknown) is NOTHING and signed_figure(None) is NOTHING
    assert str(NOTHING) == "–"


def test_a_score_has_its_error_and_sorts_by_its_value() -> None:
    cell = with_error(Estimate(value=0.904, se=0.024), 1, 100.0)
    assert (cell.text, cell.aside, str(cell)) == ("90.4", "± 2.4", "90.4 ± 2.4")
    assert cell.value == pytest.approx(90.4)
    assert str(with_interval(around(0.9))) == "90.0 (88.0 to 92.0)"
    assert str(with_spread(2.0, 0.1, unit="×")) == "2.00× (0.10)"


def test_signs_are_true_minuses() -> None:
    assert figure(-0.1, 1).text == "−0.1"
    assert str(difference(Estimate(value=-0.012, low=-0.03, high=0.006))) == "−1.2 (−3.0 to +0.6)"


@pytest.mark.parametrize(("p", "text"), [(0.0001, "< 0.001"), (0.0123, "0.012"), (1.0, "1.000")])
def test_p_values(p: float, text: str) -> None:
    assert chance(p).text == text


def test_each_resource_that_was_asked_has_a_column() -> None:
    rows = [network("dense"), network("hscc", 6.0), network("hscc", {"macs": 10.0, "latency": 7.5})]
    measures = asked_columns(lambda row: row.budget, rows)
    assert [column.label for column in columns_of(measures)] == ["asked: MACs", "asked: time"]
    assert [tuple(map(str, cells_of(row, measures))) for row in rows] == [("–", "–"), ("6×", "–"), ("10×", "7.5×")]


def test_a_table_reads_the_same_in_markdown_and_on_a_terminal() -> None:
    assert to_markdown(TABLE) == (
        "| network | figure | note |\n| --- | ---: | --- |\n| a/b | 1.5 ± 0.2 | yes |\n| c | – | no |"
    )
    console = Console(file=io.StringIO(), width=60)
    console.print(to_rich(TABLE, "a note"))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in ("caption", "a|b", "1.5 ± 0.2", "a note"):
        assert text in shown
