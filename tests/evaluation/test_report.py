from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hscc.evaluation.headline import headline
from hscc.evaluation.report import Confusion, count_confusion, render_report

Document = dict[str, Any]
MATRICES = [Confusion("Dense baseline", [[9, 1, 0, 0], [0, 8, 0, 2], [0, 0, 7, 0], [1, 0, 0, 6]])]
VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects the text, the references and whether every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def history() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [0, 1],
            "train_loss": [2.0, 1.0],
            "val_loss": [2.0, 1.5],
            "train_accuracy": [0.4, 0.6],
            "val_accuracy": [0.4, 0.5],
        }
    )


def test_the_report_is_one_closed_file_that_loads_nothing(document: Document) -> None:
    html = render_report(document, MATRICES, {"grouped": history()}, [])
    page = Page(html)
    assert page.open == []
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"url\((?!#)|@import|<script", html)
    assert len(html.encode()) < 2_000_000


def test_the_headline_and_every_network_are_there(document: Document) -> None:
    page = Page(render_report(document, MATRICES, {}, []))
    assert headline(document["rows"], "grouped") in page.words.replace("\u00a0", " ")
    for label in ("HSCC, 6×", "Global SVD, 3×", "Tucker-2, 6×", "Dense baseline"):
        assert label in page.words
    for fact in (document["data_hash"], document["git_commit"], "dvc repro evaluate", "a processor"):
        assert fact in page.words


def test_figures_come_with_errors(document: Document) -> None:
    page = Page(render_report(document, MATRICES, {}, []))
    row = document["rows"][1]
    assert f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_se']:.1f}" in page.words


def test_an_undefined_figure_is_a_dash(make_document: Callable[..., Document]) -> None:
    document = make_document()
    for row in document["rows"]:
        row["roc_auc"] = row["roc_auc_se"] = None
    page = Page(render_report(document, MATRICES, {}, []))
    assert "None" not in page.words and "nan" not in page.words.split()


@pytest.mark.parametrize("phantom", [True, False])
def test_phantom_figures_cannot_be_mistaken(make_document: Callable[..., Document], phantom: bool) -> None:
    html = render_report(make_document(phantom=phantom), MATRICES, {}, [])
    assert ("Phantom images." in html) is phantom


def test_findings_are_told_and_escaped(document: Document) -> None:
    findings = [
        {
            "id": "copies",
            "severity": "warning",
            "title": "Copies & <twins>",
            "finding": "The same image twice.",
            "what_we_do": "Keep them together.",
            "images": [f"{number}.jpg" for number in range(50)] + [["a.jpg", "b.jpg"]],
            "count": 237,
        },
        {"title": "only a title"},
    ]
    html = render_report(document, MATRICES, {}, findings)
    page = Page(html)
    assert "Copies & <twins>" in page.words
    assert "Keep them together." in page.words
    assert "237 images" in page.words
    assert "39.jpg" in page.words and "40.jpg" not in page.words
    assert "only a title" in page.words


def test_sections_without_content_are_left_out(make_document: Callable[..., Document]) -> None:
    document = make_document(comparisons=[])
    document["rows"] = [row for row in document["rows"] if row["protocol"] == "grouped"]
    html = render_report(document, MATRICES, {}, [])
    for absent in ('id="rivals"', 'id="protocols"', 'id="training"', 'id="data"', 'id="seeds"'):
        assert absent not in html
    assert 'id="guide"' in html


def test_int8_twins_have_a_table_of_their_own(make_document: Callable[..., Document]) -> None:
    document = make_document()
    page = Page(render_report(document, MATRICES, {}, []))
    assert page.open == []
    assert "HSCC, 6×, int8" in page.words and "Dense baseline, int8" in page.words
    document["rows"] = [row for row in document["rows"] if row["precision"] == "fp32"]
    assert 'id="int8"' not in render_report(document, MATRICES, {}, [])


def test_torch_has_columns_where_it_was_timed(make_document: Callable[..., Document]) -> None:
    document = make_document()
    assert "speed-up in torch, batch 16" in render_report(document, MATRICES, {}, [])
    document["rows"] = [
        {key: value for key, value in row.items() if not key.startswith("torch_")} for row in document["rows"]
    ]
    assert "speed-up in torch" not in render_report(document, MATRICES, {}, [])


def test_seeds_are_summarised_when_there_are_several(document: Document) -> None:
    again = [{**row, "seed": 1} for row in document["rows"] if row["method"] != "dense"]
    html = render_report({**document, "rows": document["rows"] + again}, MATRICES, {}, [])
    assert 'id="seeds"' in html and "seed 1" in html


def test_one_batch_size_without_the_first_is_enough(document: Document) -> None:
    rows = [
        {key: value for key, value in row.items() if not key.endswith(("_b1", "_b1_iqr"))} for row in document["rows"]
    ]
    page = Page(render_report({**document, "rows": rows}, MATRICES, {}, []))
    assert "not timed one image at a time" in page.words


def test_confusion_is_truth_by_prediction() -> None:
    found = count_confusion("x", np.array([0, 0, 1]), np.array([1, 0, 1]), 3)
    assert found.counts == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
