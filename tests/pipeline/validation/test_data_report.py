from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
from rich.console import Console

from hscc.pipeline.data.classes import CLASSES
from hscc.pipeline.validation.data_report import print_summary, report
from hscc.pipeline.validation.findings import Finding
from hscc.pipeline.validation.near_copies import gather
from hscc.pipeline.validation.runner import Outcome
from hscc.pipeline.validation.suite import stratum_checks

FINDING = Finding("copies", "warning", "Copies [sic]", "There are 2 of 5.", "Nothing.", ("a.jpg",), 2)


def known() -> dict:
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
    return report(outcomes, [FINDING], gather(frame, thumbnails, 0.99))


def test_report_is_json_with_every_count():
    told = json.loads(json.dumps(known(), allow_nan=False))
    assert told["files"] == {"count": 5, "distinct": 4, "bytes": 15}
    assert told["findings"][0]["images"] == ["a.jpg"]
    assert [(check["id"], check["passed"], check["count"]) for check in told["checks"]] == [("thin_splits", False, 1)]
    assert told["classes"]["no_tumor"] == {"Training": 1, "Testing": 1, "all": 2}
    assert told["splits"]["grouped"]["val"] == {**dict.fromkeys(CLASSES, 0), "no_tumor": 2, "all": 2}
    assert sum(part["all"] for part in told["splits"]["official"].values()) == 5
    assert told["near_copies"]["threshold"] == 0.99
    assert told["images"]["width"] == {"min": 100, "median": 100.0, "max": 300}
    assert told["images"]["sizes"] == {"different": 3, "commonest": "100x100", "images": 3}
    assert told["images"]["modes"] == {"L": 1, "RGB": 4}


def test_summary_shows_the_splits_and_the_findings():
    text = io.StringIO()
    print_summary(known(), Console(file=text, width=100))
    lines = text.getvalue().splitlines()
    official = [line for line in lines if "official" in line or "excluded" in line]
    assert len(official) == 4
    row = next(line for line in lines if "pooled" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["pooled", "train", "1", "1", "0", "0", "2"]
    assert "warning Copies [sic]" in text.getvalue()
    assert "There are 2 of 5." in text.getvalue()
    assert "-> Nothing." in text.getvalue()
