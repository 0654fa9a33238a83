"""Contrast of the page's colours, as WCAG 2.2 defines it (1.4.3 text, 1.4.11 graphics)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hscc.pipeline.report.html import page
from hscc.pipeline.report.html.svg import SERIES

CSS = (Path(page.__file__).parent / "templates/colours.css.jinja").read_text(encoding="utf-8")
GROUNDS = ("paper", "card")
TEXTS = ("ink", "muted", "accent", "warn", "bad")
GRAPHICS = tuple(f"series-{index}" for index in range(SERIES))


def schemes() -> dict[str, dict[str, str]]:
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in CSS.split("@media"))
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    channels = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable(scheme: str) -> None:
    colours = schemes()[scheme]
    for text in TEXTS:
        for ground in GROUNDS:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for text in ("ink", "muted"):
        assert contrast(colours[text], colours["mark"]) >= 4.5, text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_stand_out(scheme: str) -> None:
    colours = schemes()[scheme]
    for mark in GRAPHICS:
        assert contrast(colours[mark], colours["card"]) >= 3.0, mark


def test_both_schemes_define_the_same_colours() -> None:
    light, dark = schemes().values()
    assert set(light) == set(dark) >= {*GROUNDS, *TEXTS, *GRAPHICS}
