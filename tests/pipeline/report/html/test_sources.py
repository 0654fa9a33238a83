from __future__ import annotations

from pathlib import Path

import pytest

from hscc.errors import ArtifactError
from hscc.pipeline.report.html.sections.provenance_section import Lock
from hscc.pipeline.report.html.sources import (
    read_history,
    read_locks,
    read_registered,
    read_runs,
)


def test_what_is_absent_is_left_out(tmp_path: Path) -> None:
    assert read_history(tmp_path / "grouped.csv") is None


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


def test_the_registered_network_is_read(tmp_path: Path) -> None:
    path = tmp_path / "registration.json"
    assert read_registered(path) is None
    path.write_text('{"registered": "hscc-macs6-seed0", "why": "the fastest"}')
    assert read_registered(path) == "hscc-macs6-seed0"
    path.write_text("{}")
    with pytest.raises(ArtifactError, match="hscc register"):
        read_registered(path)


def test_locks_are_the_outputs_of_the_stages(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    assert read_locks(path) == ()
    path.write_text(
        "schema: '2.0'\nstages:\n  a@x:\n    cmd: a\n    outs:\n    - {path: out, md5: abc.dir}\n  b: {cmd: b}\n"
    )
    assert read_locks(path) == (Lock("a@x", "out", "abc.dir"),)
    path.write_text("- no")
    with pytest.raises(ArtifactError, match="no record of stages"):
        read_locks(path)


def test_notes_of_runs_may_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"run_id": "1f"}')
    (tmp_path / "b.json").write_text("{")
    assert read_runs(tmp_path) == {"a": "1f"}
    assert read_runs(tmp_path / "none") == {}
