from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.figure import Figure

from hscc.evaluation.plots import curves_figure, f1_figure, pareto_figure, series_of
from hscc.evaluation.svg import SERIES, series_colour, to_svg

Document = dict[str, Any]


@pytest.fixture
def own(document: Document) -> list[dict[str, Any]]:
    return [row for row in document["rows"] if row["protocol"] == "grouped"]


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def test_methods_are_numbered_from_the_baseline(own: list[dict[str, Any]]) -> None:
    assert series_of(own[::-1]) == {"dense": 0, "hscc": 1, "tucker": 2, "global_svd": 3}


@pytest.mark.parametrize("column", ["macs_ratio", "speedup_b1"])
def test_pareto_shows_every_method_in_the_colours_of_the_page(own: list[dict[str, Any]], column: str) -> None:
    svg = pareto_figure(own, column, "times <fewer>")
    parsed(svg)
    assert "times &lt;fewer&gt;" in svg
    assert all(f"var(--series-{index})" in svg for index in range(4))
    assert "#0000" not in svg


def test_pareto_has_room_for_every_point(own: list[dict[str, Any]]) -> None:
    svg = pareto_figure(own, "macs_ratio", "ratio")
    texts = [element.text or "" for element in parsed(svg).iter("{http://www.w3.org/2000/svg}text")]
    ticks = [float(text) for text in texts if re.fullmatch(r"[\d.]+", text)]
    assert {1.0, 6.0} <= set(ticks)
    assert min(ticks) <= 1.0
    assert 100 * min(row["accuracy"] - row["accuracy_se"] for row in own) < max(ticks) <= 100


def test_f1_shows_the_classes_and_the_networks(own: list[dict[str, Any]], document: Document) -> None:
    svg = f1_figure(own[:3], document["classes"], series_of(own))
    texts = [element.text for element in parsed(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"glioma", "meningioma", "no tumor", "pituitary", "F1"} <= set(texts)


def test_curves_are_solid_for_validation_and_dashed_for_training() -> None:
    history = pd.DataFrame({"epoch": [0, 1, 2], "train_loss": [3.0, 2.0, 1.0], "val_loss": [3.0, 2.5, 2.4]})
    svg = curves_figure({"grouped": history}, "loss", "loss")
    curves = re.findall(r'style="[^"]*stroke: var\(--series-0\)[^"]*"', svg)
    assert len(curves) == 2
    assert sum("dasharray" in curve for curve in curves) == 1


def test_svg_fits_its_place_and_stays_the_same() -> None:
    def draw() -> str:
        figure = Figure()
        figure.subplots().plot([0, 1], color=series_colour(SERIES + 2))
        return to_svg(figure, 'a "label"')

    root = parsed(draw())
    assert "width" not in root.attrib and "viewBox" in root.attrib
    assert root.attrib["aria-label"] == 'a "label"'
    assert "var(--series-2)" in draw()
    assert draw() == draw()
