from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from flows.approval import ask_and_promote
from flows.parameters import cell_names, overrides, stage_names
from flows.pipeline import pipeline
from hscc.methods import METHODS

ROOT = Path(__file__).parents[2]
SHOWN: dict[str, Any] = pipeline.parameters.model_dump()["properties"]


def test_every_parameter_is_described() -> None:
    assert {"targets", "cells", "protocol", "force"} <= set(SHOWN)
    asked = ask_and_promote.parameters.model_dump()["properties"]
    assert set(asked) == {"which", "wait_seconds"}
    for name, schema in {**SHOWN, **asked}.items():
        assert len(schema.get("description", "")) > 20, name


def test_protocols_are_choices() -> None:
    assert SHOWN["protocol"]["anyOf"][0]["enum"] == ["grouped", "pooled", "official"]


def takes(name: str, value: list[Any]) -> bool:
    """Whether the server, which holds parameters against the schema, would let the value pass."""
    return bool(Draft202012Validator(SHOWN[name]).is_valid(value))


def test_stages_are_choices_and_a_single_cell_passes_too() -> None:
    listed, typed = SHOWN["targets"]["anyOf"]
    assert listed["items"]["enum"] == stage_names(ROOT / "dvc.yaml")
    assert takes("targets", []) and takes("targets", ["train", "compress"])
    assert takes("targets", ["compress@hscc-macs6-seed0"]) and takes("targets", ["report", "train@grouped"])
    assert not takes("targets", ["compres"]) and not takes("targets", ["compress@"])
    assert typed["title"] == "Stages and cells"


def test_cells_are_choices_and_any_other_of_a_known_method_passes_too() -> None:
    listed, _ = SHOWN["cells"]["anyOf"]
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert listed["items"]["enum"] == params["compress"]["cells"]
    assert takes("cells", []) and takes("cells", params["compress"]["cells"])
    assert takes("cells", [f"{method}-macs2.5-latency2-seed7" for method in METHODS])
    assert not takes("cells", ["hsc-macs6-seed0"]) and not takes("cells", ["hscc-6-0"]) and not takes("cells", [6])


def test_stages_to_choose_are_those_of_the_graph(tmp_path: Path) -> None:
    graph = ROOT / "dvc.yaml"
    assert stage_names(graph) == list(yaml.safe_load(graph.read_text())["stages"])
    assert stage_names(tmp_path / "none.yaml") == []
    assert cell_names(tmp_path / "none.yaml") == []


@pytest.mark.parametrize("text", ["stages: [", "- a", "other: 1"])
def test_a_graph_that_cannot_be_read_offers_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(text)
    assert stage_names(tmp_path / "dvc.yaml") == cell_names(tmp_path / "dvc.yaml") == []


def test_only_what_is_asked_is_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert overrides((), None) == {}
    assert overrides((), "pooled") == {"data.protocol": "pooled"}
    Path("params.yaml").write_text("train: {protocols: [grouped, pooled]}")
    assert overrides((), "pooled") == {"data.protocol": "pooled"}
    assert overrides((), "official")["train.protocols"] == ["official"]  # else it would have no baseline
    assert overrides(("hscc-macs9-seed0",), None) == {"compress.cells": ["hscc-macs9-seed0"], "insight.cells": []}
