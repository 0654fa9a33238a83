from __future__ import annotations

from pathlib import Path

import pytest

from hscc.errors import ArtifactError
from hscc.evaluation.context import read_findings, read_history


def test_what_is_absent_is_left_out(tmp_path: Path) -> None:
    assert read_history(tmp_path / "grouped.csv") is None
    assert read_findings(tmp_path / "data.json") == []


def test_a_curve_is_read(tmp_path: Path) -> None:
    path = tmp_path / "grouped.csv"
    path.write_text("epoch,train_loss,train_accuracy,val_loss,val_accuracy\n0,1.0,0.5,1.1,0.4\n")
    history = read_history(path)
    assert history is not None
    assert history["val_accuracy"].tolist() == [0.4]


@pytest.mark.parametrize("text", ["", "epoch,loss\n0,1\n"])
def test_a_curve_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "grouped.csv").write_text(text)
    with pytest.raises(ArtifactError, match="hscc train"):
        read_history(tmp_path / "grouped.csv")


def test_findings_are_read(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"findings": [{"title": "copies"}]}')
    assert read_findings(tmp_path / "data.json") == [{"title": "copies"}]


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_findings_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(ArtifactError, match="hscc validate"):
        read_findings(tmp_path / "data.json")
