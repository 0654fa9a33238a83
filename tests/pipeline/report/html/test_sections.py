from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.report.html.section import Absent, Section
from hscc.pipeline.report.html.sections.ablation_section import ablation_section
from hscc.pipeline.report.html.sections.calibration_section import bins_of
from hscc.pipeline.report.html.sections.classes_section import classes_section
from hscc.pipeline.report.html.sections.data_section import data_section
from hscc.pipeline.report.html.sections.insight_section import insight_section
from hscc.pipeline.report.html.sections.protocols_section import protocols_section
from hscc.pipeline.report.html.sections.results_section import results_section
from hscc.pipeline.report.html.sections.tradeoff_section import tradeoff_section
from hscc.pipeline.statistics.predictions import logits_of, predictions_of
from tests.pipeline.specs import BRAIN

from ..documents import CLASSES, findings, full_results, insight, network, predictions, results_of, tradeoff


def content(section: Section | Absent) -> dict[str, Any]:
    assert isinstance(section, Section)
    return dict(section.content)


def test_only_kinds_and_groups_that_are_there_can_be_shown() -> None:
    shown = content(results_section(results_of(network(timed=False))))
    assert set(shown["kinds"]) == {"compared"} and not shown["several_seeds"]
    assert set(content(results_section(full_results((0, 1))))["kinds"]) == {"compared", "control", "seed", "int8"}


def test_the_accent_is_where_compression_is_strongest() -> None:
    legend = content(ablation_section(full_results()))["legend"]
    assert [entry.label for entry in legend] == ["3× fewer MACs", "6× fewer MACs", "12× fewer MACs"]
    assert legend[-1].series == 0


def test_a_tradeoff_that_was_switched_off_is_absent() -> None:
    found = tradeoff_section(tradeoff([], enabled=False, claims=()))
    assert isinstance(found, Absent) and "tradeoff.enabled" in found.why


def test_confusion_is_counted_from_the_kept_logits() -> None:
    results = results_of(network())
    kept = predictions(results)
    matrices = content(classes_section(results, kept, BRAIN.texts))["matrices"]
    for matrix, name in zip(matrices, ("dense-grouped", "hscc-macs6-seed0"), strict=True):
        counts = np.array([[count for count, _ in line["cells"]] for line in matrix["rows"]])
        answers = predictions_of(kept, name)
        assert counts.sum() == len(answers)
        assert np.trace(counts) == (answers["label"] == answers["predicted"]).sum()


def test_bins_add_up_to_the_expected_calibration_error() -> None:
    row = network()
    kept = predictions(results_of(row))
    bins = [found for found in bins_of(row, kept, CLASSES) if found.images]
    answers = predictions_of(kept, row.name)
    logits = logits_of(answers).astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = answers["label"].map(list(CLASSES).index).to_numpy(np.int64)
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    in_bin = np.ceil(confidence * 15).astype(int)
    expected = sum(abs((confidence - correct)[in_bin == place].sum()) for place in range(1, 16)) / len(labels)
    total = sum(found.images * abs(found.confidence - found.accuracy) for found in bins) / len(labels)
    assert total == pytest.approx(expected)


def test_findings_come_by_severity() -> None:
    shown = content(data_section(findings()))["findings"]
    assert [found.severity for found in shown] == ["warning", "note"]


def test_protocols_stand_side_by_side_with_what_near_copies_give() -> None:
    own = results_of(network())
    pooled = results_of(network(protocol="pooled"), protocol="pooled")
    shown = content(protocols_section({"grouped": own, "pooled": pooled}))
    assert [(name, images) for name, _, images in shown["protocols"]] == [("grouped", 120), ("pooled", 120)]
    assert shown["leakage"] == pytest.approx(0.0)
    assert isinstance(protocols_section({"grouped": own}), Absent)


def test_pictures_are_described_in_words(tmp_path: Path) -> None:
    shown = content(insight_section(insight(tmp_path), tmp_path, BRAIN.texts))
    assert "most at the bottom right, 60 %, least at the top left, 10 %" in shown["layers"][0]["alt"]
    assert shown["layers"][1]["picture"] is None
    assert shown["network"] == "HSCC, 6× fewer MACs"
    assert shown["importance"].lines[0].head == "conv1, 0, 19"
    assert [group["heading"] for group in shown["flips"]] == ["Right before, wrong after", "Wrong before, right after"]
    assert "dense: glioma at 60 %, compressed: meningioma at 55 %" in shown["flips"][0]["flips"][0]["alt"]


def test_insight_without_regions_or_changed_answers_has_no_tables_of_them(tmp_path: Path) -> None:
    bare = insight(tmp_path, layers=(), importance=(), importance_pictures=(), flips=(), flip_counts=())
    shown = content(insight_section(bare, tmp_path, BRAIN.texts))
    assert shown["importance"] is None and shown["flip_counts"] is None and shown["flips"] == []


def test_a_missing_picture_is_named(tmp_path: Path) -> None:
    found = insight(tmp_path)
    (tmp_path / "cam-1.png").unlink()
    with pytest.raises(ArtifactError, match=r"cam-1.png.*hscc insight"):
        insight_section(found, tmp_path, BRAIN.texts)
