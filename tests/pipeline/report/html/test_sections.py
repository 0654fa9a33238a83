from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.report.html.sections.ablation_section import ablation_section
from hscc.pipeline.report.html.sections.baselines_section import rivals_section
from hscc.pipeline.report.html.sections.calibration_section import bins_of
from hscc.pipeline.report.html.sections.classes_section import classes_section
from hscc.pipeline.report.html.sections.data_section import data_section
from hscc.pipeline.report.html.sections.insight_section import insight_section
from hscc.pipeline.report.html.sections.protocols_section import protocols_section
from hscc.pipeline.report.html.sections.results_section import results_section
from hscc.pipeline.report.html.sections.section import Absent, Section, Table
from hscc.pipeline.report.html.sections.tradeoff_section import tradeoff_section
from hscc.pipeline.statistics.predictions import logits_of, predictions_of
from hscc.pipeline.statistics.scores import expected_calibration_error

from .documents import (
    BUDGETS,
    CLASSES,
    COMPARED,
    CONTROLS,
    TIMED,
    document,
    findings,
    insight,
    predictions,
    row,
    tradeoff,
)


def content(section: Section | Absent) -> dict[str, Any]:
    assert isinstance(section, Section)
    return dict(section.content)


def column(table: Table, label: str) -> list[str]:
    index = next(place for place, found in enumerate(table.columns) if found.label == label)
    return [line.cells[index].text for line in table.lines]


def test_results_have_a_row_a_cell_and_single_seeds_on_demand() -> None:
    made = document((0, 1, 2))
    chosen = next(found for found in made["rows"] if found["method"] == "hscc" and found["budget"] == 12.0)
    table: Table = content(results_section(made, chosen))["table"]
    kinds = [line.kind for line in table.lines]
    cells = len(BUDGETS) * len(COMPARED) + len(TIMED)
    assert kinds.count("compared") == cells
    assert kinds.count("control") == len(BUDGETS) * len(CONTROLS)
    assert kinds.count("seed") == 3 * cells
    assert kinds.count("int8") == 1 + cells + len(BUDGETS) * len(CONTROLS)
    assert [line.head for line in table.lines if line.chosen] == ["HSCC, 12×"]
    assert column(table, "± over seeds")[1] == "0.42"


def test_results_of_one_seed_have_no_column_for_their_spread() -> None:
    made = document(rows=[row("dense", 1.0, role="baseline"), row(timed=False)])
    shown = content(results_section(made, made["rows"][1]))
    assert "± over seeds" not in [found.label for found in shown["table"].columns]
    assert set(shown["kinds"]) == {"compared"}
    assert column(shown["table"], "speed-up, batch 1 (IQR)") == ["1.00×", ""]


def test_rivals_leave_controls_to_the_ablation() -> None:
    table: Table = content(rivals_section(document()))["table"]
    assert len(table.lines) == len(BUDGETS) * (len(COMPARED) - 1)
    assert set(column(table, "beyond noise")) == {"KL better"}


def test_ablation_is_one_table_in_the_order_of_the_controls() -> None:
    shown = content(ablation_section(document()))
    assert [line.head for line in shown["table"].lines[:3]] == [
        "HSCC, 3×",
        "HSCC, no projection, 3×",
        "HSCC, no clusters, 3×",
    ]
    assert shown["table"].lines[0].cells[-1].text == ""
    assert [entry.label for entry in shown["legend"]] == ["3×", "6×", "12×"]
    assert shown["legend"][-1].series == 0  # the accent


def test_a_tradeoff_that_was_switched_off_is_absent() -> None:
    found = tradeoff_section({"rows": [], "claims": [], "enabled": False})
    assert isinstance(found, Absent) and "tradeoff.enabled" in found.why


def test_a_tradeoff_names_settings_and_fronts() -> None:
    shown = content(tradeoff_section(tradeoff()))
    heads = [line.head for line in shown["table"].lines]
    assert "4×4 regions, 8 clusters, 12×" in heads and "1 region, 1 cluster, 3×" in heads and "HSCC, 6×" in heads
    assert column(shown["table"], "on a front")[heads.index("4×4 regions, 8 clusters, 12×")] == "batch 1"
    assert [claim["verdict"] for claim in shown["claims"]] == ["refuted", "supported"]


def test_confusion_is_counted_from_the_kept_logits() -> None:
    made = document(rows=[row("dense", 1.0, role="baseline"), row()])
    kept = predictions(made["rows"])
    matrices = content(classes_section(made, made["rows"][1], kept))["matrices"]
    for matrix, name in zip(matrices, ("dense-grouped", "hscc-6-0"), strict=True):
        counts = np.array([[count for count, _ in line["cells"]] for line in matrix["rows"]])
        told = predictions_of(kept, name)
        assert counts.sum() == len(told)
        assert np.trace(counts) == (told["label"] == told["predicted"]).sum()


def test_bins_add_up_to_the_expected_calibration_error() -> None:
    rows = [row()]
    kept = predictions(rows)
    bins = [found for found in bins_of(rows[0], kept, list(CLASSES)) if found.images]
    told = predictions_of(kept, "hscc-6-0")
    logits = logits_of(told).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = told["label"].map(list(CLASSES).index).to_numpy(np.int64)
    total = sum(found.images * abs(found.confidence - found.accuracy) for found in bins) / len(labels)
    assert total == pytest.approx(expected_calibration_error(labels, probabilities))


def test_findings_come_by_gravity_and_are_cut() -> None:
    shown = content(data_section(findings()))["findings"]
    assert [found["badge"] for found in shown] == ["Warning", "Note"]
    assert len(shown[0]["images"]) == 40 and shown[0]["count"] == 237 and shown[0]["is_cut"]
    assert shown[1]["finding"] == "" and not shown[1]["is_cut"]


def test_protocols_stand_side_by_side_with_what_leaked() -> None:
    own = document(rows=[row("dense", 1.0, role="baseline"), row()])
    pooled = document(protocol="pooled", rows=[
        row("dense", 1.0, role="baseline", protocol="pooled", accuracy=0.954), row(protocol="pooled"),
    ])  # fmt: skip
    shown = content(protocols_section({"grouped": own, "pooled": pooled}))
    assert [line.head for line in shown["table"].lines] == ["Dense baseline", "HSCC, 6×"]
    assert column(shown["table"], "pooled minus grouped, points")[0] == "+5.0"
    assert shown["leakage"] == pytest.approx(0.05)
    assert isinstance(protocols_section({"grouped": own}), Absent)


def test_insight_tells_in_words_what_its_pictures_show(tmp_path: Path) -> None:
    shown = content(insight_section(insight(tmp_path), tmp_path))
    assert "most at the bottom right, 60 %, least at the top left, 10 %" in shown["layers"][0]["alt"]
    assert shown["layers"][1]["picture"] is None
    assert shown["network"] == "HSCC, 6×"
    assert shown["importance"].lines[0].head == "conv1, 0, 19"
    assert [group["heading"] for group in shown["flips"]] == ["Right before, wrong after", "Wrong before, right after"]
    assert "dense says glioma at 60 %, compressed meningioma at 55 %" in shown["flips"][0]["flips"][0]["alt"]


def test_insight_without_regions_flips_or_maps_is_still_told(tmp_path: Path) -> None:
    bare = {"network": "hscc_fast-10-0", "classes": list(CLASSES), "layers": [], "importance": [], "flips": []}
    shown = content(insight_section(bare, tmp_path))
    assert shown["network"] == "HSCC, fast, 10×" and shown["importance"] is None and shown["flips"] == []


def test_a_picture_that_is_not_there_is_named(tmp_path: Path) -> None:
    told = insight(tmp_path)
    (tmp_path / "cam-1.png").unlink()
    with pytest.raises(ArtifactError, match=r"no picture cam-1.png; run `hscc insight`"):
        insight_section(told, tmp_path)
