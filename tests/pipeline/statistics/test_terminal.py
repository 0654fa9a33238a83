from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hscc.errors import ArtifactError
from hscc.pipeline.report.terminal import render
from hscc.pipeline.statistics.results import to_json

Document = dict[str, Any]


def shown(tmp_path: Path, document: Document, width: int = 110) -> str:
    path = tmp_path / "results.json"
    path.write_text(to_json(document), encoding="utf-8")
    console = Console(file=io.StringIO(), width=width)
    console.print(render(path))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_network_is_a_row_that_is_not_cut(tmp_path: Path, document: Document) -> None:
    text = shown(tmp_path, document)
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "…" not in text
    for label in ("Dense baseline", "HSCC, 6×", "Global SVD, 3×", "Dense, pooled protocol"):
        assert label in text
    row = document["rows"][1]
    assert f"{100 * row['accuracy']:.1f} ± {100 * row['accuracy_se']:.1f}" in text
    assert "speed b16" in text and "80 test images" in text
    assert "2.00× (0.33)" in text  # twice as fast at a sixth of the MACs


def test_the_baseline_and_the_best_of_each_budget_have_their_int8_twin_below(
    tmp_path: Path, document: Document
) -> None:
    lines = [line for line in shown(tmp_path, document).splitlines() if line.startswith("│")]
    twins = [number for number, line in enumerate(lines) if "└ in int8" in line]
    assert [lines[number - 1].split("│")[1].strip() for number in twins] == ["Dense baseline"]
    for row in document["rows"]:
        if row["method"] == "hscc":
            row["val_accuracy"] = 0.9
    lines = [line for line in shown(tmp_path, document).splitlines() if line.startswith("│")]
    assert "in int8" in lines[next(number for number, line in enumerate(lines) if "HSCC, 6×" in line) + 1]


def test_controls_and_further_seeds_are_left_to_the_ablation(tmp_path: Path, document: Document) -> None:
    before = shown(tmp_path, document)
    document["rows"].append({**document["rows"][1], "seed": 1})
    document["rows"].append({**document["rows"][1], "method": "global_groups", "role": "control"})
    assert shown(tmp_path, document) == before


def test_what_was_not_timed_has_a_dash(tmp_path: Path, document: Document) -> None:
    (line,) = [line for line in shown(tmp_path, document).splitlines() if "Dense, pooled" in line]
    assert line.split("│")[-2].strip() == "–"


def test_phantoms_are_called_phantoms(tmp_path: Path, make_document: Callable[..., Document]) -> None:
    assert "PHANTOM" in shown(tmp_path, make_document(phantom=True))


def test_missing_results_name_the_stage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="hscc evaluate"):
        render(tmp_path / "results.json")
