from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from hscc.pipeline.report.html.page import Material, Report, render
from tests.pipeline.specs import BRAIN

from ..documents import COMPARED, CONTROLS, RATIOS, TIMED, network, predictions, results_of

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect"}
SECTIONS = (
    "data", "results", "pareto", "comparisons", "ablation", "tradeoff", "classes", "calibration", "insight",
    "protocols", "training", "provenance", "guide",
)  # fmt: skip


class Page(HTMLParser):
    """Collects the text, references, headings and ids, and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.images: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        self.ids += [known["id"] or ""] if "id" in known else []
        self.images += [known.get("alt") or ""] if tag == "img" else []
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def parsed(report: Report) -> Page:
    return Page(report.html)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of a baseline and one network, and of nothing that may lack."""
    few = results_of(network(timed=False), phantom=True)
    return render(Material({"grouped": few}, predictions(few), BRAIN.texts, tmp_path_factory.mktemp("none"))).html


def test_it_is_one_closed_file_that_loads_nothing(report: Report, parsed: Page) -> None:
    assert parsed.open == []
    assert all(reference.startswith(("#", "data:image/webp;base64,")) for reference in parsed.references)
    assert not re.search(r"url\((?!#)|@import", report.html)
    assert "default-src 'none'" in report.html
    assert len(report.html.encode()) < 3_000_000


def test_every_section_is_there_in_order_and_linked(report: Report) -> None:
    assert tuple(re.findall(r'<h2 id="(\w+)"', report.html)) == SECTIONS
    assert tuple(re.findall(r'<li><a href="#(\w+)"', report.html)) == SECTIONS
    assert 'class="note absent"' not in report.html


def test_ids_are_unique_and_every_reference_has_its_target(parsed: Page) -> None:
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {reference[1:] for reference in parsed.references if reference.startswith("#")} <= set(parsed.ids)


def test_headings_step_down_one_at_a_time(parsed: Page) -> None:
    assert parsed.headings[0] == 1 and parsed.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(parsed.headings, parsed.headings[1:], strict=False))


def test_every_picture_figure_and_table_says_what_it_is(report: Report, parsed: Page) -> None:
    assert len(parsed.images) >= 6 and all(len(alt) > 20 for alt in parsed.images)
    svgs = re.findall(r"<svg [^>]*>", report.html)
    assert len(svgs) == len(report.figures)
    assert all(re.search(r'role="(img|group)" aria-label="[^"]{10,}"', svg) for svg in svgs)
    tables = re.findall(r'<table (?:id="[\w-]+" )?class="(?:sortable|confusion)">\n(<caption>)?', report.html)
    assert len(tables) > 8 and all(tables)


def test_figures_are_files_that_stand_alone(report: Report) -> None:
    assert {"pareto-macs-ratio", "ablation-accuracy", "tradeoff-speedup-b1", "reliability", "f1"} <= set(report.figures)
    for svg in report.figures.values():
        root = ElementTree.fromstring(svg)
        assert float(root.attrib["width"]) > 200
        assert "--series-0: #" in svg and "prefers-color-scheme: dark" in svg


def test_a_point_says_its_figures_and_the_first_can_be_focused(report: Report) -> None:
    svg = report.figures["pareto-speedup-b1"]
    points = re.findall(r'<g class="point" tabindex="(-?\d)" role="img" aria-label="([^"]+)">', svg)
    assert [order for order, _ in points].count("0") == 1
    assert len(points) == 1 + (len(COMPARED) + len(CONTROLS)) * len(RATIOS) + len(TIMED)
    assert any(label.startswith("HSCC, 6× fewer MACs&#10;accuracy ") and "times faster" in label for _, label in points)


def test_it_says_whether_its_network_is_the_registered_one(tmp_path: Path) -> None:
    few = results_of(network("tucker", 3.0), network("hscc", 12.0))
    assert few.chosen().name == "hscc-macs12-seed0"

    def words(registered: str | None) -> str:
        return Page(
            render(Material({"grouped": few}, predictions(few), BRAIN.texts, tmp_path, registered=registered)).html
        ).words

    assert "the fastest, HSCC, 12× fewer MACs." in words(None) and "No network is registered" in words(None)
    assert "It is the network in the registry" in words("hscc-macs12-seed0")
    assert "The registry holds another, tucker-macs3-seed0" in words("tucker-macs3-seed0")


def test_a_network_that_misses_a_requirement_is_called_so(tmp_path: Path) -> None:
    lossy = results_of(network("hscc", 12.0, gain=-0.1))
    page = render(Material({"grouped": lossy}, predictions(lossy), BRAIN.texts, tmp_path)).html
    assert "No network meets the requirements" in page and "loses 10.00 points of accuracy" in page


def test_what_there_is_nothing_about_is_left_out_in_one_line_each(bare: str) -> None:
    page = Page(bare)
    assert page.open == []
    for absent in ("data", "comparisons", "ablation", "tradeoff", "insight", "protocols", "training"):
        assert f'id="{absent}"' not in bare
    assert bare.count('class="note absent"') == 7
    assert "because reports/tradeoff.json is not there" in page.words


def test_nothing_is_shown_as_none_or_nan(bare: str, parsed: Page) -> None:
    for words in (Page(bare).words, parsed.words):
        assert not re.search(r"\b(None|nan|NaN)\b", words)


def test_phantom_figures_cannot_be_mistaken(bare: str, report: Report) -> None:
    assert "Phantom images." in bare
    assert "Phantom images." not in report.html


def test_what_others_wrote_is_escaped(report: Report, parsed: Page) -> None:
    assert "Copies & <pairs>" in parsed.words
    assert "<pairs>" not in report.html


def test_the_same_material_gives_the_same_page(tmp_path: Path) -> None:
    few = results_of(network())
    pages = [render(Material({"grouped": few}, predictions(few), BRAIN.texts, tmp_path)).html for _ in range(2)]
    assert pages[0] == pages[1]


def test_hashes_seeds_versions_and_runs_are_named(parsed: Page) -> None:
    hashes = ("0" * 32 + ".dir", "f" * 40, "c" * 32, "d" * 32, "e" * 32, "a" * 64)
    for fact in (*hashes, "python 3.11", "networks 0, 1, 2"):
        assert fact in parsed.words
