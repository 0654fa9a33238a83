"""`hscc init`: what a workspace consists of, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from hscc.errors import HSCCError
from hscc.pipeline.commands import init
from hscc.pipeline.params import read_params
from tests.in_process import dvc
from tests.pipeline.workspace.drawn import folders

ROOT = Path(__file__).parents[3]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folders(tmp_path / "X-Rays", ["ill", "no"], ["train", "test"])


@pytest.fixture(scope="module")
def proposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The section `data` that is proposed for these images."""
    folder = tmp_path_factory.mktemp("proposed")
    init.run(folder / "w", folders(folder / "X-Rays", ["ill", "no"], ["train", "test"]), say=lambda line: None)
    section: dict[str, Any] = yaml.safe_load((folder / "w/params.yaml").read_text())["data"]
    return section


def test_a_workspace_is_valid_and_ready(data: Path, tmp_path: Path) -> None:
    workspace, said = tmp_path / "workspace", []
    init.run(workspace, data, say=said.append)
    params = read_params(workspace / "params.yaml")
    assert params.data.classes == ("ill", "no") and params.data.texts.title == "X Rays"
    assert params.train.protocols == ("official",) and params.register_.name == "hscc-x-rays"
    stages = dvc(workspace, "stage", "list", "--name-only").split()
    assert {"code", "validate", "train@official", "compress@hscc-macs6-seed0", "report"} <= set(stages)
    assert not (workspace / "hscc").exists()
    assert "dvc repro" in (workspace / "README.md").read_text()
    assert any(line.startswith("data.classes: [ill, no] - ") for line in said)
    assert (data / "train/ill").is_dir() and not (data / ".dvc").exists()


def test_a_given_spec_is_taken_and_the_rest_follows(proposed: dict[str, Any], data: Path, tmp_path: Path) -> None:
    workspace, spec = tmp_path / "workspace", tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"data": proposed | {"image_size": 96, "protocol": "grouped"}}))
    init.run(workspace, data, spec, say=lambda line: None)
    params = read_params(workspace / "params.yaml")
    assert params.data.image_size == 96
    assert params.train.protocols == ("grouped",) and params.promote.protocol == "grouped"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"classes": ["ill", "no", "other"]}, "'other'"),
        ({"classes": ["ill", "other"]}, "'no'"),
        ({"official": None, "protocol": "grouped"}, "'train/ill'|'test/ill'"),
        ({"official": {"train": "train", "val": "dev", "test": "test"}}, "'dev'"),
        ({"channels": 2}, "data.channels"),
        ({"colour": 2}, "data.colour"),
    ],
)
def test_a_spec_of_other_data_is_refused_and_nothing_is_written(
    change: dict[str, Any], named: str, proposed: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump({"data": proposed | change}))
    with pytest.raises(HSCCError, match=named):
        init.run(tmp_path / "workspace", data, spec, say=lambda line: None)
    assert not (tmp_path / "workspace").exists()


def test_a_used_folder_and_one_inside_the_data_are_refused(data: Path, tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "thesis.tex").write_text("mine")
    with pytest.raises(HSCCError, match=r"thesis\.tex"):
        init.run(used, data)
    with pytest.raises(HSCCError, match="outside"):
        init.run(data / "workspace", data)
    assert [path.name for path in used.iterdir()] == ["thesis.tex"]
    assert not (data / "workspace").exists()
