from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from hscc.errors import ArtifactError
from hscc.pipeline.data.phantom.dataset import CLASSES
from hscc.pipeline.data.report import DataReport, Finding, read_data_report, write_data_report
from hscc.pipeline.validation.data_report import gather_report, print_summary
from hscc.pipeline.validation.near_copies import gather_evidence
from hscc.pipeline.validation.runner import Outcome
from hscc.pipeline.validation.suite import stratum_checks
from tests.pipeline.specs import BRAIN

COMMITTED = Path(__file__).parents[3] / "reports/data.json"
FINDING = Finding(
    id="copies", severity="warning", title="Copies [sic]", finding="There are 2 of 5.", what_we_do="Nothing.",
    images=("a.jpg",), count=2,
)  # fmt: skip


@pytest.fixture
def data_report() -> DataReport:
    labels = [*CLASSES, "no_tumor"]
    frame = pd.DataFrame(
        {
            "label": labels,
            "official_split": ["Training"] * 4 + ["Testing"],
            "width": [100, 100, 300, 200, 100],
            "height": [100, 100, 100, 100, 100],
            "bytes": [1, 2, 3, 4, 5],
            "mode": ["RGB", "RGB", "L", "RGB", "RGB"],
            "sha256": ["a", "b", "c", "d", "c"],
            "split_grouped": ["train", "train", "val", "test", "val"],
            "split_pooled": ["train", "train", "val", "test", "test"],
            "split_official": ["train", "train", "train", "val", "excluded"],
        }
    )
    thumbnails = np.random.default_rng(0).integers(0, 256, (5, 256), dtype=np.uint8)
    outcomes = [Outcome(stratum_checks()[0], False, ("official/test/no_tumor",))]
    return gather_report(outcomes, [FINDING], gather_evidence(frame, thumbnails, BRAIN))


def test_the_report_has_every_count(data_report: DataReport):
    assert data_report.files.model_dump() == {"count": 5, "distinct": 4, "bytes": 15}
    assert [(check.id, check.passed, check.count) for check in data_report.checks] == [("thin_splits", False, 1)]
    assert data_report.classes["no_tumor"] == {"Training": 1, "Testing": 1, "all": 2}
    assert data_report.splits["grouped"]["val"] == {**dict.fromkeys(CLASSES, 0), "no_tumor": 2, "all": 2}
    assert sum(part["all"] for part in data_report.splits["official"].values()) == 5
    assert data_report.near_copies.threshold == 0.99
    assert data_report.images.width.model_dump() == {"min": 100, "median": 100.0, "max": 300}
    assert data_report.images.sizes.model_dump() == {"different": 3, "commonest": "100x100", "images": 3}
    assert data_report.images.modes == {"L": 1, "RGB": 4}


def test_a_written_report_is_read_again(data_report: DataReport, tmp_path: Path):
    write_data_report(data_report, tmp_path / "data.json")
    assert read_data_report(tmp_path / "data.json") == data_report


def test_the_committed_report_has_this_schema(tmp_path: Path):
    write_data_report(read_data_report(COMMITTED), tmp_path / "data.json")
    assert (tmp_path / "data.json").read_bytes() == COMMITTED.read_bytes()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"files": {"count": 1}}'])
def test_a_missing_or_damaged_report_names_the_stage(content: str | None, tmp_path: Path):
    if content is not None:
        (tmp_path / "data.json").write_text(content)
    with pytest.raises(ArtifactError, match=r"data\.json .*hscc validate"):
        read_data_report(tmp_path / "data.json")


def test_the_summary_shows_the_splits_and_the_findings(data_report: DataReport):
    text = io.StringIO()
    print_summary(data_report, BRAIN, Console(file=text, width=100))
    lines = text.getvalue().splitlines()
    official = [line for line in lines if "official" in line or "excluded" in line]
    assert len(official) == 4
    row = next(line for line in lines if "pooled" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["pooled", "train", "1", "1", "0", "0", "2"]
    assert "warning Copies [sic]" in text.getvalue()
    assert "There are 2 of 5." in text.getvalue()
    assert "-> Nothing." in text.getvalue()
