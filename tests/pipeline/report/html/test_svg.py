from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from matplotlib.figure import Figure

from hscc.pipeline.report.html.sections.classes_section import f1_drawing
from hscc.pipeline.report.html.sections.pareto_section import Gain, pareto_drawing
from hscc.pipeline.report.html.sections.training_section import curves_drawing
from hscc.pipeline.report.html.series import ACCENT, GREY, legend, marks
from hscc.pipeline.report.html.svg import SERIES, series_colour, standalone, to_svg
from hscc.pipeline.statistics.schema import NetworkRow

from ..documents import network

ROWS = [
    network("dense"), network("global_svd", 3.0), network("hscc", 3.0), network("hscc", {"macs": 6.0, "latency": 4.0}),
    network("hscc", {"latency": 5.0}), network("random_regions", 3.0),
]  # fmt: skip


def macs_ratio(row: NetworkRow) -> float | None:
    return row.macs_ratio


def speedup(row: NetworkRow) -> float | None:
    timing = row.timing(1)
    return timing.speedup if timing else None


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_svg_fits_its_place_and_stays_the_same() -> None:
    def draw() -> str:
        figure = Figure()
        figure.subplots().plot([0, 1], color=series_colour(SERIES + 2), gid="point-0")
        return to_svg(figure, "name", 'a "label"', {"point-0": "one\n<two>"})

    root = ElementTree.fromstring(draw())
    assert "width" not in root.attrib and "viewBox" in root.attrib
    assert root.attrib["aria-label"] == 'a "label"' and root.attrib["role"] == "group"
    assert "var(--series-2)" in draw() and "#0000e" not in draw()
    assert "var(--font)" in draw() and "DejaVu" not in draw()
    assert 'aria-label="one&#10;&lt;two&gt;"' in draw()
    assert draw() == draw()


def test_a_figure_alone_has_its_title_and_legend() -> None:
    drawing = pareto_drawing(ROWS, macs_ratio, "pareto", "ratio", "A <title>")
    root = ElementTree.fromstring(standalone(drawing, ":root { --ink: #000000; }"))
    shown = ["".join(element.itertext()).strip() for element in root.findall("{http://www.w3.org/2000/svg}text")]
    assert shown == ["A <title>", *(f"{entry.glyph}  {entry.label}" for entry in drawing.legend)]
    left, top, _, height = map(float, root.attrib["viewBox"].split())
    assert left == 0 and top < -50 and height > -top
    assert float(root.attrib["height"]) > 0


def test_a_method_has_one_colour_and_its_kind_of_budget_fills_the_mark() -> None:
    found = marks(ROWS)
    ours = [found["hscc", fill] for fill in ("full", "left", "none")]
    assert {mark.series for mark in ours} == {ACCENT} and len({mark.glyph for mark in ours}) == 3
    assert found["dense", "full"].series == GREY
    assert found["random_regions", "full"].is_control
    assert [entry.label for entry in legend(found)] == [
        "Dense baseline", "Global SVD", "HSCC", "HSCC, MACs and time asked", "HSCC, time asked", "controls",
    ]  # fmt: skip


@pytest.mark.parametrize("gain", [macs_ratio, speedup])
def test_pareto_has_room_for_every_point(gain: Gain) -> None:
    drawing = pareto_drawing(ROWS, gain, "pareto", "times <fewer>", "title")
    assert "times &lt;fewer&gt;" in drawing.svg
    ticks = [float(text) for text in texts(drawing.svg) if re.fullmatch(r"[\d.]+", text)]
    assert 89.0 < max(ticks) <= 100  # the dense network's 90 %, less one standard error
    assert drawing.svg.count('class="point"') == len(ROWS)


def test_a_network_without_a_time_is_not_in_the_figure_of_time() -> None:
    drawing = pareto_drawing([*ROWS, network("tucker", 3.0, timed=False)], speedup, "pareto", "times faster", "title")
    assert drawing.svg.count('class="point"') == len(ROWS)


def test_f1_shows_the_classes() -> None:
    drawing = f1_drawing(ROWS[:3], ["glioma", "meningioma", "no tumour", "pituitary"], "F1")
    assert {"glioma", "meningioma", "no tumour", "pituitary", "F1"} <= set(texts(drawing.svg))


def test_curves_are_solid_for_validation_and_dashed_for_training() -> None:
    history: Any = pd.DataFrame({"epoch": [0, 1, 2], "train_loss": [3.0, 2.0, 1.0], "val_loss": [3.0, 2.5, 2.4]})
    curves = re.findall(
        r'style="[^"]*stroke: var\(--series-0\)[^"]*"', curves_drawing({"grouped": history}, "loss", "loss").svg
    )
    assert len(curves) == 2
    assert sum("dasharray" in curve for curve in curves) == 1
